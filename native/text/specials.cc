#include "text/specials.h"

#include <algorithm>
#include <string>

namespace tonnage::text {

void SpecialTokens::add(uint32_t id, std::string_view text, uint8_t manners, const Vocabulary& vocabulary) {
  if (text.size() > kMaxBytes)
    throw TextError("Special token " + std::to_string(id) + " has " + std::to_string(text.size()) +
                    " bytes; at most " + std::to_string(kMaxBytes) + " are supported.");
  if (text.empty()) return;  // found nowhere
  uint32_t own_text = kFromVocabulary;
  if (vocabulary.text(id) != text) {
    if (own_texts_.size() >= kFromVocabulary) throw TextError("The special tokens take more than 512 MiB.");
    own_text = static_cast<uint32_t>(own_texts_.size());
    own_texts_.push_back(static_cast<char>(text.size() & 0xFF));
    own_texts_.push_back(static_cast<char>(text.size() >> 8));
    own_texts_.insert(own_texts_.end(), text.begin(), text.end());
  }
  items_.push_back({id, own_text & kFromVocabulary, manners & 7u});
}

std::string_view SpecialTokens::text_of(const Vocabulary& vocabulary, const Item& item) const {
  if (item.own_text == kFromVocabulary) return vocabulary.text(item.id);
  const char* p = own_texts_.data() + item.own_text;
  return {p + 2, static_cast<uint8_t>(p[0]) | static_cast<size_t>(static_cast<uint8_t>(p[1])) << 8};
}

void SpecialTokens::finish(const Vocabulary& vocabulary) {
  const auto text = [&](const Item& item) { return text_of(vocabulary, item); };
  std::stable_sort(items_.begin(), items_.end(), [&](const Item& a, const Item& b) { return text(a) < text(b); });
  items_.erase(std::unique(items_.begin(), items_.end(), [&](const Item& a, const Item& b) { return text(a) == text(b); }),
               items_.end());
  items_.shrink_to_fit();
  own_texts_.shrink_to_fit();
  if (items_.empty()) return;
  first_.resize(257);
  uint32_t i = 0;
  for (uint32_t byte = 0; byte < 256; ++byte) {
    first_[byte] = i;
    while (i < items_.size() && static_cast<uint8_t>(text(items_[i])[0]) == byte) ++i;
  }
  first_[256] = i;
}

// Narrows the sorted range by one byte of text after another; a token that ends where the range stands is
// its first member.
const SpecialTokens::Item* SpecialTokens::match_at(const Vocabulary& vocabulary, const char* p, const char* end,
                                                   Which which) const {
  const uint32_t lead = static_cast<uint8_t>(*p);
  const Item* low = items_.data() + first_[lead];
  const Item* high = items_.data() + first_[lead + 1];
  const Item* best = nullptr;
  const auto counts = [&](const Item& item) {
    return which == kAll || (vocabulary.kind(item.id) == kUserDefined) == (which == kUserDefinedOnly);
  };
  for (size_t depth = 1; low < high; ++depth) {
    if (text_of(vocabulary, *low).size() == depth) {
      if (counts(*low)) best = low;
      ++low;
    }
    if (p + depth == end) break;
    const auto byte = static_cast<uint8_t>(p[depth]);
    const auto at = [&](const Item& item) { return static_cast<uint8_t>(text_of(vocabulary, item)[depth]); };
    if (low == high || at(*low) > byte || at(high[-1]) < byte) break;
    // Runs of one character are most of what is met: there the range stays as it is.
    if (at(*low) < byte) low = std::partition_point(low, high, [&](const Item& item) { return at(item) < byte; });
    if (at(high[-1]) > byte) high = std::partition_point(low, high, [&](const Item& item) { return at(item) <= byte; });
  }
  return best;
}

void SpecialTokens::split(const Vocabulary& vocabulary, std::string_view text, size_t begin, size_t end, Which which,
                          std::vector<Segment>& out) const {
  const char* base = text.data();
  const char* from = base + begin;
  const char* last = base + end;
  const char* taken = from;
  const auto put = [&](const char* first, const char* stop, int32_t id, const char* own_begin, const char* own_end) {
    const auto place = [&](const char* q) { return static_cast<size_t>(q - base); };
    out.push_back({place(first), place(stop), id, place(own_begin), place(own_end)});
  };
  const uint32_t* starts = first_.data();
  for (const char* p = items_.empty() ? last : from; p < last;) {
    const uint32_t lead = static_cast<uint8_t>(*p);
    const Item* item = starts[lead] == starts[lead + 1] ? nullptr : match_at(vocabulary, p, last, which);
    if (item == nullptr) {
      ++p;
      continue;
    }
    const char* first = p;
    const char* at = p;
    const char* stop = p += text_of(vocabulary, *item).size();
    if (item->manners & kWholeWord) {
      if (first > from && is_word(read_rune(previous_rune(from, first), first).code_point)) continue;
      if (stop < last && is_word(read_rune(stop, last).code_point)) continue;
    }
    while ((item->manners & kEatsBefore) && first > taken) {
      const char* q = previous_rune(from, first);
      if (!is_space(read_rune(q, first).code_point)) break;
      first = q;
    }
    while ((item->manners & kEatsAfter) && stop < last) {
      const Rune rune = read_rune(stop, last);
      if (!is_space(rune.code_point)) break;
      stop += rune.num_bytes;
    }
    if (item->manners & kEatsBefore) first = std::max(first, taken);
    if (taken < first) put(taken, first, -1, taken, first);
    if (first < stop) put(first, stop, static_cast<int32_t>(item->id), at, p);
    taken = stop;
  }
  if (taken != last) put(taken, last, -1, taken, last);
}

int32_t SpecialTokens::find_text(const Vocabulary& vocabulary, std::string_view text) const {
  const auto item = std::partition_point(items_.begin(), items_.end(), [&](const Item& other) {
    return text_of(vocabulary, other) < text;
  });
  const bool found = item != items_.end() && text_of(vocabulary, *item) == text;
  return found ? static_cast<int32_t>(item->id) : -1;
}

}  // namespace tonnage::text
