// The small language of regular expressions that pre-tokenizers are written in, matched on UTF-8.
//
// Supported: literals, [classes], \p{..}, \s \S \d \w, \r \n \t \f \v, \uHHHH, \x{H..}, groups (?:...) and
// (?i:...) that occur once or with ?, alternation, the greedy quantifiers ? * + {n} {n,} {n,m}, their
// possessive forms ?+ *+ ++, and (?!c) (?=c) (?<!c) (?<=c) of one class, . ^ $. Anything else is a TextError that
// names it.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "text/unicode.h"

namespace tonnage::text {

class CharClass {
 public:
  void add_range(uint32_t first, uint32_t last) { ranges_.emplace_back(first, last); }
  void add_categories(uint32_t mask) { categories_ |= mask; }
  void negate() { negated_ = true; }
  // Also matches the other case of every ASCII letter matched so far (and U+017F, U+212A as s, k).
  void fold_case();
  // Fills the table that `has` uses below 128; to be called once, last.
  void seal();
  bool has(uint32_t code_point) const {
    if (code_point < 128) return ascii_[code_point >> 6] >> (code_point & 63) & 1;
    return slow_has(code_point);
  }

 private:
  bool slow_has(uint32_t code_point) const;

  uint64_t ascii_[2] = {0, 0};
  uint32_t categories_ = 0;
  bool negated_ = false;
  std::vector<std::pair<uint32_t, uint32_t>> ranges_;
};

struct Node {
  enum Kind : uint8_t { kClass, kBranch, kLook, kAccept };
  Kind kind = kAccept;
  bool possessive = false;
  bool negative = false;
  bool behind = false;
  uint32_t cls = 0;
  uint32_t min = 1;
  uint32_t max = 1;
  uint32_t next = 0;
  std::vector<uint32_t> branches;
};

class Pattern {
 public:
  // Throws TextError.
  explicit Pattern(std::string_view source);

  // End of the match that starts at p, or nullptr; it sees nothing before `begin` and behind `end`. Takes the
  // steps made from `budget` and throws TextError when it is used up.
  const char* match(const char* begin, const char* p, const char* end, uint64_t& budget) const;

  // A budget for all matches in a text: the patterns in use stay below 8 steps a byte.
  static uint64_t budget_for(size_t num_bytes) { return 4096 + 64 * static_cast<uint64_t>(num_bytes); }

 private:
  struct Run {
    const char* begin;
    const char* end;
    uint64_t& budget;
  };
  const char* walk(Run& run, uint32_t node, const char* p) const;
  const char* walk_class(Run& run, const Node& node, const char* p) const;

  std::vector<CharClass> classes_;
  std::vector<Node> nodes_;
  uint32_t start_ = 0;
};

}  // namespace tonnage::text
