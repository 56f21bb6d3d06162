// Finding tokens that stand in the text as they are (control and user-defined ones).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace tonnage::text {

struct SpecialMatch {
  const char* begin = nullptr;  // nullptr: none
  const char* end = nullptr;
  uint32_t id = 0;
};

// The special tokens sorted by text. A token may eat the white space beside it.
class SpecialTokens {
 public:
  static constexpr size_t kMaxBytes = 1024;
  enum Eats : uint8_t { kNothing = 0, kBefore = 1, kAfter = 2 };

  // Throws TextError on an empty or overlong text.
  void add(uint32_t id, std::string_view text, uint8_t eats);
  // Sorts; throws TextError when two tokens have one text.
  void finish(const Vocabulary& vocabulary);

  // Leftmost longest match at or behind `from`; control tokens only with parse_special.
  SpecialMatch find(const Vocabulary& vocabulary, const char* from, const char* end, bool parse_special) const;
  // Id of exactly this text, or -1.
  int32_t find_text(const Vocabulary& vocabulary, std::string_view text) const;
  size_t nbytes() const { return items_.capacity() * sizeof(Item) + sizeof(first_); }

 private:
  struct Item {
    uint32_t id;
    uint8_t eats;
  };
  const Item* match_at(const Vocabulary& vocabulary, const char* p, const char* end, bool parse_special) const;

  std::vector<Item> items_;
  uint32_t first_[257] = {};  // items whose first byte is b: [first_[b], first_[b + 1])
};

}  // namespace tonnage::text
