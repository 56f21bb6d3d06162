// Encoding and decoding half of TokenizerCore.
#include "text/tokenizer_core.h"

#include <cstring>

#include "text/byte_alphabet.h"
#include "text/work.h"

namespace tonnage::text {

namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // U+2581
constexpr size_t kMaxText = size_t{1} << 31;

// Lower is better: the order of floats turned round.
uint32_t priority_of_score(float score) {
  const float plain = score == 0 ? 0 : score;  // -0
  uint32_t bits;
  std::memcpy(&bits, &plain, 4);
  return ~(bits >> 31 ? ~bits : bits | 0x80000000u);
}

}  // namespace

std::vector<Segment> TokenizerCore::split(std::string_view text, bool parse_special, Second second) const {
  const auto which = parse_special ? SpecialTokens::kAll : SpecialTokens::kUserDefinedOnly;
  std::vector<Segment> segments;
  specials_.split(vocabulary_, text, 0, text.size(), which, segments);
  if (second == kNoSecond || normalized_specials_.empty()) return segments;
  std::vector<Segment> result;
  for (const Segment& one : segments) {
    if (one.id >= 0) result.push_back(one);
    else normalized_names_.split(vocabulary_, text, one.begin, one.end, second == kSameSecond ? which : SpecialTokens::kControlOnly, result);
  }
  return result;
}

std::vector<Segment> TokenizerCore::split_normalized(std::string_view text, bool parse_special) const {
  std::vector<Segment> result;
  normalized_specials_.split(vocabulary_, text, 0, text.size(),
                             parse_special ? SpecialTokens::kAll : SpecialTokens::kUserDefinedOnly, result);
  return result;
}

std::vector<int32_t> TokenizerCore::encode(std::string_view text, bool parse_special) const {
  std::vector<int32_t> out;
  for (const Segment& segment : split(text, parse_special, kSameSecond)) {
    if (segment.id >= 0)
      out.push_back(segment.id);
    else
      encode_plain(text.substr(segment.begin, segment.end - segment.begin), segment.begin == 0, out);
  }
  return out;
}

void TokenizerCore::encode_plain(std::string_view text, bool at_start, std::vector<int32_t>& out) const {
  if (!finished_) throw TextError("The tokenizer is used before it is loaded.");
  if (text.size() >= kMaxText / 4) throw TextError("A text of " + std::to_string(text.size()) + " bytes is too long to encode at once; at most 512 MiB are possible.");
  if (text.empty()) return;
  Work work{out, WordCache(text.size())};
  std::deque<std::string> owned;
  pre_tokenizer_.run(text, at_start, owned, [&](const char* p, const char* end) {
    if (splits_spaces_) split_spaces(work, p, end);
    else encode_piece(work, p, end);
  });
}

void TokenizerCore::split_spaces(Work& work, const char* p, const char* end) const {
  const char* from = p;
  while (p < end) {
    const std::string_view rest(p, static_cast<size_t>(end - p));
    const size_t found = rest.find(kSpaceMark, 1);
    if (found == std::string_view::npos) break;
    p += found;
    const auto before = static_cast<uint8_t>(p[-1]);
    const bool in_run = p - from >= 3 && std::string_view(p - 3, 3) == kSpaceMark;
    const bool may_merge = before < 128 && (inner_space_after_[before >> 6] >> (before & 63) & 1);
    if (in_run || may_merge) continue;
    encode_piece(work, from, p);
    from = p;
  }
  if (from < end) encode_piece(work, from, end);
}

void TokenizerCore::encode_piece(Work& work, const char* p, const char* end) const {
  const std::string_view piece(p, static_cast<size_t>(end - p));
  if (!work.cache.holds(piece)) return encode_new(work, piece);
  const uint64_t hash = hash_bytes(piece.data(), piece.size());
  if (work.cache.replay(piece, hash, work.out)) return;
  const size_t first = work.out.size();
  encode_new(work, piece);
  work.cache.remember(piece, hash, first, work.out.size() - first);
}

void TokenizerCore::encode_new(Work& work, std::string_view piece) const {
  if (options_.whole_word) {
    const int32_t id = vocabulary_.find(piece);
    if (id >= 0) return work.out.push_back(id);
  }
  switch (options_.model) {
    case Options::kUnigram: return most_probable(work, piece);
    case Options::kWordPiece: return longest_first(work, piece);
    case Options::kWordLevel: return whole_piece(work, piece);
    default: break;
  }
  work.scratch.symbols.clear();
  if (options_.byte_level) symbols_of_bytes(work, piece);
  else symbols_of_runes(work, piece);
  merge(work, piece);
  emit(work, piece);
}

namespace {

// Unknown symbols on their way into a word: as the package tokenizers has it, one waits for the next symbol.
class Unknowns {
 public:
  Unknowns(std::vector<Symbol>& symbols, int32_t id, bool fuses) : symbols_(symbols), id_(id), fuses_(fuses) {}

  void add(uint32_t start, uint32_t end) {
    if (id_ < 0) return;
    if (waits_ && !fuses_) flush();
    if (!waits_) start_ = start;
    end_ = end;
    waits_ = true;
  }
  void flush() {
    if (waits_) symbols_.push_back({id_, start_, end_, kNoMerge, 0});
    waits_ = false;
  }

 private:
  std::vector<Symbol>& symbols_;
  int32_t id_;
  bool fuses_;
  bool waits_ = false;
  uint32_t start_ = 0;
  uint32_t end_ = 0;
};

}  // namespace

void TokenizerCore::symbols_of_bytes(Work& work, std::string_view piece) const {
  auto& symbols = work.scratch.symbols;
  Unknowns unknowns(symbols, options_.unknown_id, options_.fuse_unknown);
  for (uint32_t i = 0; i < piece.size(); ++i) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(piece[i])];
    if (id < 0) {
      unknowns.add(i, i + 1);
      continue;
    }
    unknowns.flush();
    symbols.push_back({id, i, i + 1, kNoMerge, 0});
  }
  unknowns.flush();
}

int32_t TokenizerCore::find_symbol(Work& work, std::string_view piece, uint32_t start, uint32_t end) const {
  work.buffer.assign(piece, start, end - start);
  if (start > 0) work.buffer.insert(0, options_.subword_prefix);
  if (end == piece.size()) work.buffer += options_.word_suffix;
  return vocabulary_.find(work.buffer);
}

// The <0xNN> tokens of work.buffer, if all of them are there.
bool TokenizerCore::push_bytes(Work& work, std::string_view text, uint32_t start) const {
  if (!options_.byte_fallback) return false;
  for (const char c : text)
    if (byte_ids_[static_cast<uint8_t>(c)] < 0) return false;
  for (const char c : text) {
    work.scratch.symbols.push_back({byte_ids_[static_cast<uint8_t>(c)], start, start + 1, kNoMerge, 0});
    ++start;
  }
  return true;
}

void TokenizerCore::symbols_of_runes(Work& work, std::string_view piece) const {
  auto& symbols = work.scratch.symbols;
  const char* base = piece.data();
  const char* end = base + piece.size();
  const bool is_dressed = !options_.subword_prefix.empty() || !options_.word_suffix.empty();
  Unknowns unknowns(symbols, options_.unknown_id, options_.fuse_unknown);
  for (uint32_t at = 0, next = 0; at < piece.size(); at = next) {
    next = at + read_rune(base + at, end).num_bytes;
    // By score, merging goes by text, so that a character needs an id only if it stays alone.
    if (options_.model == Options::kScores) {
      symbols.push_back({-1, at, next, kNoMerge, 0});
      continue;
    }
    const std::string_view rune = piece.substr(at, next - at);
    const int32_t id = is_dressed ? find_symbol(work, piece, at, next) : vocabulary_.find(rune);
    if (id >= 0) {
      unknowns.flush();
      symbols.push_back({id, at, next, kNoMerge, 0});
    } else if (!push_bytes(work, is_dressed ? std::string_view(work.buffer) : rune, at)) {
      unknowns.add(at, next);
    }
  }
  unknowns.flush();
}

void TokenizerCore::merge(Work& work, std::string_view piece) const {
  if (options_.model == Options::kScores) {
    merge_symbols(work.scratch, [&](Symbol& left, const Symbol& right) {
      const int32_t id = vocabulary_.find(piece.substr(left.start, right.end - left.start));
      left.priority = id < 0 ? kNoMerge : priority_of_score(scores_[static_cast<size_t>(id)]);
      left.merged_id = static_cast<uint32_t>(id);
    });
    return;
  }
  merge_symbols(work.scratch, [&](Symbol& left, const Symbol& right) {
    left.priority = merges_.find(static_cast<uint32_t>(left.id), static_cast<uint32_t>(right.id), &left.merged_id);
  });
}

void TokenizerCore::emit(Work& work, std::string_view piece) const {
  for (const Symbol& symbol : work.scratch.symbols) {
    const int32_t known =
        symbol.id >= 0 ? symbol.id : vocabulary_.find(piece.substr(symbol.start, symbol.end - symbol.start));
    if (known >= 0) {
      work.out.push_back(known);
      continue;
    }
    for (uint32_t i = symbol.start; i < symbol.end; ++i) {
      const int32_t id = byte_ids_[static_cast<uint8_t>(piece[i])];
      if (id >= 0) work.out.push_back(id);
      else if (options_.unknown_id >= 0) work.out.push_back(options_.unknown_id);
    }
  }
}

std::string TokenizerCore::token_bytes(uint32_t id) const {
  const std::string_view text = token_text(id);
  if (vocabulary_.kind(id) == kUnused) return {};
  const int byte = options_.byte_fallback && !options_.byte_level ? byte_of_name(text) : -1;
  if (byte >= 0) return std::string(1, static_cast<char>(byte));
  std::string out(text);
  if (!options_.unescapes_spaces) return out;
  for (size_t at = out.find(kSpaceMark); at != std::string::npos; at = out.find(kSpaceMark, at + 1))
    out.replace(at, kSpaceMark.size(), " ");
  return out;
}

std::string_view TokenizerCore::token_text(uint32_t id) const {
  if (id >= vocabulary_.size())
    throw TextError("Token id " + std::to_string(id) + " is outside the " + std::to_string(vocabulary_.size()) + " tokens.");
  if (decoded_as_.empty()) return vocabulary_.text(id);
  const auto found = decoded_as_.find(id);
  return found == decoded_as_.end() ? vocabulary_.text(id) : std::string_view(found->second);
}

int32_t TokenizerCore::find(std::string_view text) const {
  const int32_t special = specials_.find_text(vocabulary_, text);
  if (special >= 0) return special;
  const int32_t normalized = normalized_names_.find_text(vocabulary_, text);
  return normalized >= 0 ? normalized : vocabulary_.find(text);
}

}  // namespace tonnage::text
