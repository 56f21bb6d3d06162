// Loading half of TokenizerCore.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <unordered_map>

#include "text/byte_alphabet.h"
#include "text/tokenizer_core.h"

namespace tonnage::text {

namespace {

// Walks length-prefixed strings.
class StringWalk {
 public:
  StringWalk(std::string_view data, uint64_t count, const char* what) : data_(data), what_(what) {
    if (count > data.size() / 8)
      throw TextError(std::to_string(count) + " " + what + " do not fit in " + std::to_string(data.size()) + " bytes.");
  }

  std::string_view next() {
    uint64_t size = 0;
    if (data_.size() >= 8) std::memcpy(&size, data_.data(), 8);
    if (data_.size() < 8 || size > data_.size() - 8)
      throw TextError("Entry " + std::to_string(index_) + " of the " + what_ + " leaves its array.");
    const std::string_view item = data_.substr(8, size);
    if (!is_utf8(item))
      throw TextError("Entry " + std::to_string(index_) + " of the " + what_ + " is not valid UTF-8.");
    data_.remove_prefix(8 + size);
    ++index_;
    return item;
  }

 private:
  std::string_view data_;
  const char* what_;
  uint64_t index_ = 0;
};

uint32_t count_u32(uint64_t count, const char* what) {
  if (count == 0) throw TextError(std::string("The vocabulary has no ") + what + ".");
  if (count > kMaxTokens)
    throw TextError(std::to_string(count) + " " + what + " exceed " + std::to_string(kMaxTokens) + ".");
  return static_cast<uint32_t>(count);
}

}  // namespace

TokenizerCore::TokenizerCore(Options options) : options_(std::move(options)), pre_tokenizer_(options_.steps) {
  std::fill(std::begin(byte_ids_), std::end(byte_ids_), -1);
}

// The form that is stored and merged: raw bytes of a byte-level token, else the text as it is.
std::string_view TokenizerCore::plain_form(std::string_view text, std::string& buffer) const {
  if (!options_.byte_level) return text;
  return decode_letters(text, buffer) ? std::string_view(buffer) : std::string_view();
}

std::vector<int32_t> ids_of_texts(std::string_view tokens, uint64_t count64, const std::vector<std::string>& texts) {
  const uint32_t count = count_u32(count64, "tokens");
  std::unordered_map<std::string_view, size_t> places;
  for (size_t i = 0; i < texts.size(); ++i) places.emplace(texts[i], i);
  std::vector<int32_t> ids(texts.size(), -1);
  StringWalk walk(tokens, count, "tokens");
  for (uint32_t id = 0; id < count; ++id)
    if (const auto place = places.find(walk.next()); place != places.end()) ids[place->second] = static_cast<int32_t>(id);
  return ids;
}

void TokenizerCore::load_gguf_tokens(std::string_view tokens, uint64_t count64, std::string_view types,
                                     std::string_view scores, const std::vector<uint32_t>& controls) {
  const uint32_t count = count_u32(count64, "tokens");
  StringWalk walk(tokens, count, "tokens");
  if (!types.empty() && types.size() != size_t{count} * 4)
    throw TextError(std::to_string(types.size() / 4) + " token types do not fit " + std::to_string(count) + " tokens.");
  if (options_.model == Options::kScores && scores.size() != size_t{count} * 4)
    throw TextError(std::to_string(scores.size() / 4) + " scores do not fit " + std::to_string(count) + " tokens.");
  vocabulary_.reserve(count, tokens.size() - size_t{count} * 8);
  std::string buffer;
  for (uint32_t id = 0; id < count; ++id) {
    const std::string_view text = walk.next();
    int32_t type = kNormal;
    if (!types.empty()) std::memcpy(&type, types.data() + size_t{id} * 4, 4);
    if (type < 0 || type > kByte)
      throw TextError("Token " + std::to_string(id) + " has the unknown type " + std::to_string(type) + ".");
    if (std::find(controls.begin(), controls.end(), id) != controls.end()) type = kControl;
    const auto kind = type == 0 ? kNormal : static_cast<Kind>(type);
    std::string_view plain = text;
    bool mergeable = kind == kNormal || (!options_.byte_level && (kind == kUserDefined || kind == kUnused));
    if (options_.byte_level && kind == kNormal) {
      mergeable = decode_letters(text, buffer);
      if (mergeable) plain = buffer;
    }
    vocabulary_.set(id, plain, kind);
    if (mergeable && !plain.empty()) vocabulary_.index(id);
    if (options_.byte_level && kind != kNormal) set_aside(id, text);
    const bool special = kind == kControl || kind == kUserDefined || kind == kUnknown;
    if (special && !plain.empty()) specials_.add(id, plain, SpecialTokens::kNothing, vocabulary_);
  }
  if (options_.model != Options::kScores) return;
  scores_.resize(count);
  std::memcpy(scores_.data(), scores.data(), scores.size());
  for (uint32_t id = 0; id < count; ++id)
    if (!std::isfinite(scores_[id])) throw TextError("The score of token " + std::to_string(id) + " is not a number.");
}

// Any token may be what a merge takes or makes; but only then does plain text become a special one.
void TokenizerCore::set_aside(uint32_t id, std::string_view text) {
  std::string buffer;
  if (!decode_letters(text, buffer) || buffer != text) return;
  if (text.size() > 1) set_aside_.emplace(text, id);
  else if (vocabulary_.find(text) < 0) vocabulary_.index(id);
}

int32_t TokenizerCore::find_for_merge(std::string_view text) {
  const int32_t id = vocabulary_.find(text);
  if (id >= 0 || set_aside_.empty()) return id;
  const auto found = set_aside_.find(std::string(text));
  if (found == set_aside_.end()) return -1;
  const uint32_t aside = found->second;
  set_aside_.erase(found);
  vocabulary_.index(aside);
  return static_cast<int32_t>(aside);
}

TokenizerCore::MergeIds TokenizerCore::merge_ids(std::string_view left, std::string_view right, MergeBuffers& buffers) {
  left = plain_form(left, buffers.left);
  right = plain_form(right, buffers.right);
  MergeIds ids{find_for_merge(left), find_for_merge(right), -1};
  buffers.whole.assign(left);
  // What marks the right part as one that goes on is not repeated.
  buffers.whole.append(right.substr(std::min(right.size(), options_.subword_prefix.size())));
  // Trainers number results in the order of their merges.
  const uint32_t guess = merges_.size() == 0 ? 0 : merges_.last_result() + 1;
  const bool guessed = guess < vocabulary_.size() && vocabulary_.kind(guess) == kNormal && vocabulary_.text(guess) == buffers.whole;
  ids.result = guessed ? static_cast<int32_t>(guess) : find_for_merge(buffers.whole);
  return ids;
}

void TokenizerCore::load_gguf_merges(std::string_view merges, uint64_t count64) {
  const uint32_t count = count64 == 0 ? 0 : count_u32(count64, "merges");
  StringWalk walk(merges, count, "merges");
  merges_.reserve(count);
  MergeBuffers buffers;
  for (uint32_t rank = 0; rank < count; ++rank) {
    const std::string_view item = walk.next();
    // A token may begin with the separator.
    const size_t space = item.find(' ', 1);
    if (space == std::string_view::npos) continue;
    const MergeIds ids = merge_ids(item.substr(0, space), item.substr(space + 1), buffers);
    // People's files have merges that can never be carried out.
    if (ids.left < 0 || ids.right < 0 || ids.result < 0) continue;
    merges_.add(static_cast<uint32_t>(ids.left), static_cast<uint32_t>(ids.right), static_cast<uint32_t>(ids.result));
  }
  set_aside_.clear();
}

void TokenizerCore::load_json_vocabulary(JsonFile& file, size_t offset) {
  uint64_t count = 0;
  size_t text_bytes = 0;
  std::string key, buffer;
  for (JsonObject object(file, offset); object.next(key);) {
    object.skip_value();
    text_bytes += key.size();
    ++count;
  }
  // Ids may have gaps, which added tokens fill.
  const uint64_t bound = 2 * uint64_t{count_u32(count, "tokens")} + 4096;
  vocabulary_.reserve(static_cast<uint32_t>(count), text_bytes);
  for (JsonObject object(file, offset); object.next(key);) {
    const uint64_t id = object.take_number();
    if (id >= bound)
      throw TextError("Token id " + std::to_string(id) + " is absurd for " + std::to_string(count) + " tokens.");
    const auto id32 = static_cast<uint32_t>(id);
    vocabulary_.grow_to(id32);
    if (vocabulary_.kind(id32) != kUnused) throw TextError("Token id " + std::to_string(id) + " is given twice.");
    const bool decoded = options_.byte_level && decode_letters(key, buffer);
    const bool is_byte = options_.byte_fallback && byte_of_name(key) >= 0;
    vocabulary_.set(id32, decoded ? std::string_view(buffer) : std::string_view(key), is_byte ? kByte : kNormal);
    if ((decoded || !options_.byte_level) && !is_byte && !key.empty()) vocabulary_.index(id32);
  }
}

void TokenizerCore::load_json_log_probabilities(JsonFile& file, size_t offset) {
  uint64_t count = 0;
  for (JsonArray array(file, offset); array.next();) array.skip_value(), ++count;
  vocabulary_.reserve(count_u32(count, "tokens"), 0);
  log_probabilities_.reserve(count);
  std::string text;
  for (JsonArray array(file, offset); array.next();) {
    const auto id = static_cast<uint32_t>(log_probabilities_.size());
    array.expect('[');
    array.take_string(text);
    array.expect(',');
    log_probabilities_.push_back(array.take_real());
    array.expect(']');
    vocabulary_.set(id, text, options_.byte_fallback && byte_of_name(text) >= 0 ? kByte : kNormal);
    if (!text.empty()) vocabulary_.index_last(id);
  }
}

void TokenizerCore::load_json_merges(JsonFile& file, size_t offset) {
  uint64_t count = 0;
  for (JsonArray array(file, offset); array.next();) array.skip_value(), ++count;
  if (count > kMaxTokens) throw TextError(std::to_string(count) + " merges exceed " + std::to_string(kMaxTokens) + ".");
  merges_.reserve(static_cast<uint32_t>(count));
  uint64_t rank = 0;
  std::string left, right;
  MergeBuffers buffers;
  for (JsonArray array(file, offset); array.next(); ++rank) {
    if (array.take('[')) {
      array.take_string(left);
      array.expect(',');
      array.take_string(right);
      array.expect(']');
    } else {
      array.take_string(left);
      const size_t space = left.find(' ');
      if (space == std::string::npos || left.find(' ', space + 1) != std::string::npos)
        throw TextError("Merge " + std::to_string(rank) + " is not a pair of tokens.");
      right = left.substr(space + 1);
      left.resize(space);
    }
    add_required_merge(rank, left, right, buffers);
  }
}

void TokenizerCore::add_required_merge(uint64_t rank, std::string_view left, std::string_view right,
                                       MergeBuffers& buffers) {
  const MergeIds ids = merge_ids(left, right, buffers);
  const char* missing = ids.left < 0 ? "left part" : ids.right < 0 ? "right part" : "result";
  if (ids.left < 0 || ids.right < 0 || ids.result < 0)
    throw TextError("The " + std::string(missing) + " of merge " + std::to_string(rank) + " is no token of the vocabulary.");
  merges_.add_last(static_cast<uint32_t>(ids.left), static_cast<uint32_t>(ids.right), static_cast<uint32_t>(ids.result));
}

void TokenizerCore::load_text_merges(std::string_view text) {
  const auto count = static_cast<uint64_t>(std::count(text.begin(), text.end(), '\n')) + 1;
  if (count > kMaxTokens) throw TextError(std::to_string(count) + " merges exceed " + std::to_string(kMaxTokens) + ".");
  merges_.reserve(static_cast<uint32_t>(count));
  uint64_t rank = 0;
  MergeBuffers buffers;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    if (line.substr(0, 8) == "#version") continue;
    const size_t space = line.find(' ');
    if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos)
      throw TextError("Merge " + std::to_string(rank) + " is not a pair of tokens.");
    add_required_merge(rank++, line.substr(0, space), line.substr(space + 1), buffers);
  }
}

void TokenizerCore::add_special(uint32_t id, std::string_view text, Kind kind, uint8_t manners,
                                const std::string* normalized) {
  if (!is_utf8(text)) throw TextError("Special token " + std::to_string(id) + " is not valid UTF-8.");
  if (id > vocabulary_.size() + 65536)
    throw TextError("Special token id " + std::to_string(id) + " is absurd for " +
                    std::to_string(vocabulary_.size()) + " tokens.");
  std::string buffer;
  const bool decoded = options_.byte_level && decode_letters(text, buffer);
  const std::string_view plain = decoded ? std::string_view(buffer) : text;
  // A byte-level vocabulary has no other text than letters that decode.
  const int32_t known = decoded == options_.byte_level ? vocabulary_.find(plain) : -1;
  if (known >= 0) id = static_cast<uint32_t>(known);
  vocabulary_.grow_to(id);
  if (known < 0 && vocabulary_.text(id) != plain) {
    if (vocabulary_.kind(id) != kUnused) throw TextError("Special token " + std::to_string(id) + " has another text in the vocabulary.");
    vocabulary_.set(id, plain, kind);
  } else {
    vocabulary_.set_kind(id, kind);
  }
  if (normalized == nullptr) return specials_.add(id, text, manners, vocabulary_);
  if (*normalized != text) {
    const bool is_letters = options_.byte_level && decode_letters(*normalized, buffer);
    decoded_as_[id] = is_letters ? buffer : *normalized;
  }
  normalized_specials_.add(id, *normalized, manners, vocabulary_);
  normalized_names_.add(id, text, manners, vocabulary_);
}

void TokenizerCore::finish() {
  if (finished_) throw TextError("The tokenizer is loaded already.");
  if (vocabulary_.size() == 0) throw TextError("The vocabulary has no tokens.");
  if (options_.model == Options::kScores && scores_.size() != vocabulary_.size()) throw TextError("The vocabulary has no scores to merge by.");
  if (options_.unknown_id >= static_cast<int64_t>(vocabulary_.size()))
    throw TextError("The unknown token " + std::to_string(options_.unknown_id) + " is outside the " +
                    std::to_string(vocabulary_.size()) + " tokens.");
  vocabulary_.shrink();
  specials_.finish(vocabulary_);
  normalized_specials_.finish(vocabulary_);
  normalized_names_.finish(vocabulary_);
  if (!options_.unknown_token.empty()) options_.unknown_id = find(options_.unknown_token);
  index_bytes();
  if (options_.model == Options::kUnigram) find_longest_by_lead();
  const bool merges = options_.model == Options::kMerges || options_.model == Options::kScores;
  const bool is_dressed = !options_.subword_prefix.empty() || !options_.word_suffix.empty();
  const bool by_symbols = merges && !options_.whole_word && !is_dressed;
  if (by_symbols && options_.unescapes_spaces && !pre_tokenizer_.splits()) find_inner_spaces();
  finished_ = true;
}

void TokenizerCore::index_bytes() {
  if (options_.byte_level) {
    for (int byte = 0; byte < 256; ++byte) {
      const char c = static_cast<char>(byte);
      byte_ids_[byte] = vocabulary_.find({&c, 1});
    }
    return;
  }
  for (uint32_t id = 0; id < vocabulary_.size(); ++id) {
    const int byte = options_.byte_fallback || vocabulary_.kind(id) == kByte ? byte_of_name(vocabulary_.text(id)) : -1;
    if (byte < 0 && vocabulary_.kind(id) != kByte) continue;
    if (byte < 0) throw TextError("Byte token " + std::to_string(id) + " is not written <0xNN>.");
    byte_ids_[byte] = static_cast<int32_t>(id);
  }
}

// Where no token has a word break (U+2581 behind another character) inside, merging never crosses one,
// and words can be merged one by one. A few ASCII characters that do precede one are remembered instead.
void TokenizerCore::find_inner_spaces() {
  splits_spaces_ = vocabulary_.find("\xE2\x96\x81") >= 0;  // else runs of unknown characters cross words
  for (uint32_t id = 0; id < vocabulary_.size() && splits_spaces_; ++id) {
    const std::string_view text = vocabulary_.text(id);
    for (size_t at = text.find("\xE2\x96\x81", 1); at != std::string_view::npos; at = text.find("\xE2\x96\x81", at + 3)) {
      if (at >= 3 && text.substr(at - 3, 3) == "\xE2\x96\x81") continue;
      const auto before = static_cast<uint8_t>(text[at - 1]);
      if (before >= 128) splits_spaces_ = false;
      else inner_space_after_[before >> 6] |= uint64_t{1} << (before & 63);
    }
  }
}

size_t TokenizerCore::nbytes() const {
  return sizeof(*this) + vocabulary_.nbytes() + merges_.nbytes() + specials_.nbytes() +
         normalized_specials_.nbytes() + normalized_names_.nbytes() + scores_.capacity() * 4 + log_probabilities_.capacity() * 8 +
         longest_by_lead_.capacity() * 2;
}

}  // namespace tonnage::text
