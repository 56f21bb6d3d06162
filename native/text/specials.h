// Finding tokens that stand in the text as they are (control and user-defined ones).
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "text/vocabulary.h"

namespace tonnage::text {

struct Segment {  // of text between special tokens (id -1), or a special token
  size_t begin, end;
  int32_t id;
  size_t token_begin, token_end;  // of the token itself; [begin, end) includes white space that it eats
};

// Special tokens sorted by text. A token may eat the white space beside it.
class SpecialTokens {
 public:
  static constexpr size_t kMaxBytes = 1024;
  enum Manners : uint8_t { kNothing = 0, kEatsBefore = 1, kEatsAfter = 2, kWholeWord = 4 };
  enum Which : uint8_t { kUserDefinedOnly, kControlOnly, kAll };

  // Throws TextError on an overlong text.
  void add(uint32_t id, std::string_view text, uint8_t manners, const Vocabulary& vocabulary);
  // Sorts. Of tokens of one text the first that was added counts.
  void finish(const Vocabulary& vocabulary);

  // Appends text[begin, end) cut at the leftmost longest matches. As the package tokenizers has it, a token in white
  // space that the one before has eaten is there all the same, unless it eats what is before it.
  void split(const Vocabulary& vocabulary, std::string_view text, size_t begin, size_t end, Which which,
             std::vector<Segment>& out) const;
  // Id of exactly this text, or -1.
  int32_t find_text(const Vocabulary& vocabulary, std::string_view text) const;
  bool empty() const { return items_.empty(); }
  size_t nbytes() const { return items_.capacity() * sizeof(Item) + first_.capacity() * 4 + own_texts_.capacity(); }

 private:
  static constexpr uint32_t kFromVocabulary = (1u << 29) - 1;
  struct Item {
    uint32_t id;
    uint32_t own_text : 29;  // where its text begins in own_texts_, behind two bytes of its length
    uint32_t manners : 3;
  };
  std::string_view text_of(const Vocabulary& vocabulary, const Item& item) const;
  const Item* match_at(const Vocabulary& vocabulary, const char* p, const char* end, Which which) const;

  std::vector<Item> items_;
  std::vector<char> own_texts_;  // where they are not the vocabulary's
  std::vector<uint32_t> first_;  // items whose first byte is b: [first_[b], first_[b + 1])
};

}  // namespace tonnage::text
