#include "text/specials.h"

#include <algorithm>
#include <string>

namespace tonnage::text {

void SpecialTokens::add(uint32_t id, std::string_view text, uint8_t eats) {
  if (text.empty()) throw TextError("Special token " + std::to_string(id) + " is empty.");
  if (text.size() > kMaxBytes)
    throw TextError("Special token " + std::to_string(id) + " has " + std::to_string(text.size()) +
                    " bytes; at most " + std::to_string(kMaxBytes) + " are supported.");
  items_.push_back({id, eats});
}

void SpecialTokens::finish(const Vocabulary& vocabulary) {
  std::sort(items_.begin(), items_.end(), [&](const Item& a, const Item& b) {
    return vocabulary.text(a.id) < vocabulary.text(b.id);
  });
  for (size_t i = 1; i < items_.size(); ++i)
    if (vocabulary.text(items_[i - 1].id) == vocabulary.text(items_[i].id))
      throw TextError("Special tokens " + std::to_string(items_[i - 1].id) + " and " +
                      std::to_string(items_[i].id) + " are the same text.");
  items_.shrink_to_fit();
  uint32_t i = 0;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    first_[byte] = i;
    while (i < items_.size() && static_cast<uint8_t>(vocabulary.text(items_[i].id)[0]) == byte) ++i;
  }
  first_[256] = i;
}

// Narrows the sorted range by one byte of text after another; a token that ends where the range stands is
// its first member.
const SpecialTokens::Item* SpecialTokens::match_at(const Vocabulary& vocabulary, const char* p, const char* end,
                                                   bool parse_special) const {
  const uint32_t lead = static_cast<uint8_t>(*p);
  const Item* low = items_.data() + first_[lead];
  const Item* high = items_.data() + first_[lead + 1];
  const Item* best = nullptr;
  for (size_t depth = 1; low < high; ++depth) {
    const std::string_view shortest = vocabulary.text(low->id);
    if (shortest.size() == depth) {
      const bool allowed = parse_special || vocabulary.kind(low->id) == kUserDefined;
      if (allowed) best = low;
      ++low;
    }
    if (p + depth == end) break;
    const auto byte = static_cast<uint8_t>(p[depth]);
    const auto at = [&](const Item& item) { return static_cast<uint8_t>(vocabulary.text(item.id)[depth]); };
    low = std::partition_point(low, high, [&](const Item& item) { return at(item) < byte; });
    high = std::partition_point(low, high, [&](const Item& item) { return at(item) <= byte; });
  }
  return best;
}

SpecialMatch SpecialTokens::find(const Vocabulary& vocabulary, const char* from, const char* end,
                                 bool parse_special) const {
  if (items_.empty()) return {};
  for (const char* p = from; p < end; ++p) {
    const uint32_t lead = static_cast<uint8_t>(*p);
    if (first_[lead] == first_[lead + 1]) continue;
    const Item* item = match_at(vocabulary, p, end, parse_special);
    if (item == nullptr) continue;
    SpecialMatch match{p, p + vocabulary.text(item->id).size(), item->id};
    const auto is_space = [](uint32_t c) {
      const Category k = category_of(c);
      return k == kZs || k == kZl || k == kZp || k == kCw;
    };
    while ((item->eats & kBefore) && match.begin > from) {
      const char* q = previous_rune(from, match.begin);
      if (!is_space(read_rune(q, match.begin).code_point)) break;
      match.begin = q;
    }
    while ((item->eats & kAfter) && match.end < end) {
      const Rune rune = read_rune(match.end, end);
      if (!is_space(rune.code_point)) break;
      match.end += rune.num_bytes;
    }
    return match;
  }
  return {};
}

int32_t SpecialTokens::find_text(const Vocabulary& vocabulary, std::string_view text) const {
  const auto item = std::partition_point(items_.begin(), items_.end(), [&](const Item& other) {
    return vocabulary.text(other.id) < text;
  });
  const bool found = item != items_.end() && vocabulary.text(item->id) == text;
  return found ? static_cast<int32_t>(item->id) : -1;
}

}  // namespace tonnage::text
