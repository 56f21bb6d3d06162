// Encoding and decoding half of TokenizerCore.
#include "text/tokenizer_core.h"

#include <cstring>

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

// Words met before in the same text: where they stand in it and where their ids begin in the output.
class WordCache {
 public:
  static constexpr size_t kMaxWord = 32;

  // Short texts repeat too little to pay for the entries.
  explicit WordCache(size_t text_bytes) {
    if (text_bytes >= 8192) entries_.resize(4096);
  }
  bool holds(std::string_view word) const { return !entries_.empty() && word.size() > 1 && word.size() <= kMaxWord; }
  bool replay(std::string_view word, uint64_t hash, std::vector<int32_t>& out) const {
    const Entry& e = entries_[hash % entries_.size()];
    if (e.size != word.size() || std::memcmp(e.word, word.data(), e.size) != 0) return false;
    for (uint32_t i = 0; i < e.count; ++i) out.push_back(out[e.first + i]);
    return true;
  }
  void remember(std::string_view word, uint64_t hash, size_t first, size_t count) {
    entries_[hash % entries_.size()] = {word.data(), static_cast<uint32_t>(first), static_cast<uint16_t>(word.size()),
                                        static_cast<uint16_t>(count)};
  }

 private:
  struct Entry {
    const char* word = nullptr;
    uint32_t first = 0;
    uint16_t size = 0;
    uint16_t count = 0;
  };
  std::vector<Entry> entries_;
};

struct TokenizerCore::Work {
  std::vector<int32_t>& out;
  WordCache cache;
  uint64_t budget;
  MergeScratch scratch{};
};

std::vector<Stretch> TokenizerCore::split(std::string_view text, bool parse_special) const {
  std::vector<Stretch> result;
  const char* base = text.data();
  const char* end = base + text.size();
  const char* p = base;
  while (p < end) {
    const SpecialMatch match = specials_.find(vocabulary_, p, end, parse_special);
    const char* stop = match.begin == nullptr ? end : match.begin;
    if (stop > p) result.push_back({static_cast<size_t>(p - base), static_cast<size_t>(stop - base), -1});
    if (match.begin == nullptr) break;
    result.push_back({static_cast<size_t>(match.begin - base), static_cast<size_t>(match.end - base),
                      static_cast<int32_t>(match.id)});
    p = match.end;
  }
  return result;
}

std::vector<int32_t> TokenizerCore::encode(std::string_view text, bool parse_special) const {
  std::vector<int32_t> out;
  for (const Stretch& stretch : split(text, parse_special)) {
    if (stretch.id >= 0)
      out.push_back(stretch.id);
    else
      encode_plain(text.substr(stretch.begin, stretch.end - stretch.begin), stretch.begin == 0, out);
  }
  return out;
}

void TokenizerCore::encode_plain(std::string_view text, bool at_start, std::vector<int32_t>& out) const {
  if (!finished_) throw TextError("The tokenizer is used before it is loaded.");
  if (text.size() >= kMaxText / 4) throw TextError("A text of " + std::to_string(text.size()) + " bytes is too long to encode at once; at most 512 MiB are possible.");
  if (text.empty()) return;
  Work work{out, WordCache(text.size()), Pattern::budget_for(text.size())};
  if (!options_.escape_spaces && options_.prefix == Options::kNoPrefix) {
    split_piece(work, 0, text.data(), text.data() + text.size());
    return;
  }
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 2 + 3);
  for (const char c : text) {
    if (c == ' ' && options_.escape_spaces) escaped += kSpaceMark;
    else escaped.push_back(c);
  }
  const bool wanted = options_.prefix == Options::kEvery || (options_.prefix == Options::kFirst && at_start);
  const std::string_view mark = options_.escape_spaces ? kSpaceMark : std::string_view(" ");
  const bool present = options_.prefix_if_missing && std::string_view(escaped).substr(0, mark.size()) == mark;
  if (wanted && !present) escaped.insert(0, mark);
  split_piece(work, 0, escaped.data(), escaped.data() + escaped.size());
}

// Matches of the pattern of this step, and the gaps between them, go to the next step.
void TokenizerCore::split_piece(Work& work, size_t step, const char* p, const char* end) const {
  if (step == patterns_.size()) {
    if (splits_spaces_) split_spaces(work, p, end);
    else encode_piece(work, p, end);
    return;
  }
  const Pattern& pattern = patterns_[step];
  const char* gap = p;
  while (p < end) {
    const char* stop = pattern.match(p, end, work.budget);
    if (stop == nullptr || stop == p) {
      p += read_rune(p, end).num_bytes;
      continue;
    }
    if (gap < p) split_piece(work, step + 1, gap, p);
    split_piece(work, step + 1, p, stop);
    gap = p = stop;
  }
  if (gap < end) split_piece(work, step + 1, gap, end);
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
  if (!work.cache.holds(piece)) return merge_piece(work, piece);
  const uint64_t hash = hash_bytes(piece.data(), piece.size());
  if (work.cache.replay(piece, hash, work.out)) return;
  const size_t first = work.out.size();
  merge_piece(work, piece);
  work.cache.remember(piece, hash, first, work.out.size() - first);
}

void TokenizerCore::merge_piece(Work& work, std::string_view piece) const {
  if (options_.whole_word) {
    const int32_t id = vocabulary_.find(piece);
    if (id >= 0) {
      work.out.push_back(id);
      return;
    }
  }
  work.scratch.symbols.clear();
  if (options_.byte_level) symbols_of_bytes(work, piece);
  else symbols_of_runes(work, piece);
  merge(work, piece);
  emit(work, piece);
}

void TokenizerCore::symbols_of_bytes(Work& work, std::string_view piece) const {
  auto& symbols = work.scratch.symbols;
  for (uint32_t i = 0; i < piece.size(); ++i) {
    const int32_t id = byte_ids_[static_cast<uint8_t>(piece[i])];
    if (id >= 0) symbols.push_back({id, i, i + 1, kNoMerge, 0});
    else if (options_.unknown_id >= 0) push_unknown(work, piece, i, i + 1);
  }
}

void TokenizerCore::symbols_of_runes(Work& work, std::string_view piece) const {
  const char* base = piece.data();
  const char* end = base + piece.size();
  uint32_t at = 0;
  while (at < piece.size()) {
    const uint32_t next = at + read_rune(base + at, end).num_bytes;
    // By score, merging goes by text, so that a character needs an id only if it stays alone.
    const int32_t id = options_.by_score ? -1 : vocabulary_.find(piece.substr(at, next - at));
    if (id >= 0 || options_.by_score) work.scratch.symbols.push_back({id, at, next, kNoMerge, 0});
    else push_unknown(work, piece, at, next);
    at = next;
  }
}

void TokenizerCore::push_unknown(Work& work, std::string_view piece, uint32_t start, uint32_t end) const {
  auto& symbols = work.scratch.symbols;
  if (options_.byte_fallback) {
    bool all = true;
    for (uint32_t i = start; i < end; ++i) all = all && byte_ids_[static_cast<uint8_t>(piece[i])] >= 0;
    for (uint32_t i = start; all && i < end; ++i)
      symbols.push_back({byte_ids_[static_cast<uint8_t>(piece[i])], i, i + 1, kNoMerge, 0});
    if (all) return;
  }
  if (options_.unknown_id < 0) return;
  const bool fuse = options_.fuse_unknown && !symbols.empty() && symbols.back().id == options_.unknown_id &&
                    symbols.back().end == start;
  if (fuse) symbols.back().end = end;
  else symbols.push_back({options_.unknown_id, start, end, kNoMerge, 0});
}

void TokenizerCore::merge(Work& work, std::string_view piece) const {
  if (options_.by_score) {
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
  if (id >= vocabulary_.size())
    throw TextError("Token id " + std::to_string(id) + " is outside the " + std::to_string(vocabulary_.size()) + " tokens.");
  const std::string_view text = vocabulary_.text(id);
  const Kind kind = vocabulary_.kind(id);
  if (kind == kUnused) return {};
  if (kind == kByte && !options_.byte_level) {
    for (int byte = 0; byte < 256; ++byte)
      if (byte_ids_[byte] == static_cast<int32_t>(id)) return std::string(1, static_cast<char>(byte));
  }
  std::string out(text);
  if (!options_.escape_spaces || kind == kControl) return out;
  for (size_t at = out.find(kSpaceMark); at != std::string::npos; at = out.find(kSpaceMark, at + 1))
    out.replace(at, kSpaceMark.size(), " ");
  return out;
}

int32_t TokenizerCore::find(std::string_view text) const {
  const int32_t special = specials_.find_text(vocabulary_, text);
  return special >= 0 ? special : vocabulary_.find(text);
}

}  // namespace tonnage::text
