// UTF-8 and general categories of Unicode.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

namespace tonnage::text {

// Any tokenizer data that cannot be used; the binding turns it into TokenizerError.
struct TextError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// In the order of tools/unicode_table.py. kCw: control characters that are white space.
enum Category : uint8_t {
  kLu, kLl, kLt, kLm, kLo, kMn, kMc, kMe, kNd, kNl, kNo, kPc, kPd, kPs, kPe, kPi, kPf, kPo,
  kSm, kSc, kSk, kSo, kZs, kZl, kZp, kCc, kCf, kCs, kCo, kCn, kCw,
};

extern const uint32_t kCategoryRuns[];
extern const uint32_t kNumCategoryRuns;

// Category of a code point below 0x110000 (kCn above).
Category category_of(uint32_t code_point);

// White_Space of Unicode.
inline bool is_space(uint32_t code_point) {
  const Category c = category_of(code_point);
  return c == kZs || c == kZl || c == kZp || c == kCw;
}

// A character of a word (\w of Unicode Technical Standard 18).
bool is_word(uint32_t code_point);

struct Rune {
  uint32_t code_point;
  uint32_t num_bytes;
};

// Reads one code point at p < end. A byte that starts no valid sequence reads as U+FFFD of one byte, so
// any bytes can be walked.
Rune read_rune(const char* p, const char* end);

// True when read_rune met no invalid byte.
bool is_utf8(std::string_view text);

// Appends the UTF-8 form of a code point.
void append_rune(std::string& out, uint32_t code_point);

// Start of the code point that ends before p > begin.
inline const char* previous_rune(const char* begin, const char* p) {
  const char* q = p - 1;
  while (q > begin && p - q < 4 && (static_cast<uint8_t>(*q) & 0xC0) == 0x80) --q;
  // Stray continuation bytes were read one by one.
  return read_rune(q, p).num_bytes == static_cast<uint32_t>(p - q) ? q : p - 1;
}

}  // namespace tonnage::text
