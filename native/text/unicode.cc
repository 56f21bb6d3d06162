#include "text/unicode.h"

#include <algorithm>

namespace tonnage::text {

Category category_of(uint32_t code_point) {
  if (code_point > 0x10FFFF) return kCn;
  const uint32_t* last = kCategoryRuns + kNumCategoryRuns;
  const uint32_t* run = std::upper_bound(kCategoryRuns, last, code_point << 5 | 31);
  return static_cast<Category>(run[-1] & 31);
}

bool is_word(uint32_t code_point) {
  const Category c = category_of(code_point);
  if (c <= kNl || c == kPc) return true;
  // Letters in circles and squares, and what joins.
  return (code_point >= 0x24B6 && code_point <= 0x24E9) || (code_point >= 0x1F130 && code_point <= 0x1F149) ||
         (code_point >= 0x1F150 && code_point <= 0x1F169) || (code_point >= 0x1F170 && code_point <= 0x1F189) ||
         code_point == 0x200C || code_point == 0x200D;
}

namespace {

constexpr Rune kInvalid{0xFFFD, 1};

bool continues(const char* p) { return (static_cast<uint8_t>(*p) & 0xC0) == 0x80; }

uint32_t low6(const char* p) { return static_cast<uint8_t>(*p) & 0x3Fu; }

}  // namespace

Rune read_rune(const char* p, const char* end) {
  const uint32_t lead = static_cast<uint8_t>(*p);
  if (lead < 0x80) return {lead, 1};
  const auto left = end - p;
  if (lead >= 0xC2 && lead < 0xE0) {
    if (left < 2 || !continues(p + 1)) return kInvalid;
    return {(lead & 0x1F) << 6 | low6(p + 1), 2};
  }
  if (lead >= 0xE0 && lead < 0xF0) {
    if (left < 3 || !continues(p + 1) || !continues(p + 2)) return kInvalid;
    const uint32_t value = (lead & 0x0F) << 12 | low6(p + 1) << 6 | low6(p + 2);
    if (value < 0x800 || (value >= 0xD800 && value < 0xE000)) return kInvalid;
    return {value, 3};
  }
  if (lead >= 0xF0 && lead < 0xF5) {
    if (left < 4 || !continues(p + 1) || !continues(p + 2) || !continues(p + 3)) return kInvalid;
    const uint32_t value = (lead & 0x07) << 18 | low6(p + 1) << 12 | low6(p + 2) << 6 | low6(p + 3);
    if (value < 0x10000 || value > 0x10FFFF) return kInvalid;
    return {value, 4};
  }
  return kInvalid;
}

bool is_utf8(std::string_view text) {
  const char* p = text.data();
  const char* end = p + text.size();
  while (p < end) {
    if (static_cast<uint8_t>(*p) < 0x80) {
      ++p;
      continue;
    }
    const Rune rune = read_rune(p, end);
    if (rune.num_bytes == 1) return false;
    p += rune.num_bytes;
  }
  return true;
}

void append_rune(std::string& out, uint32_t code_point) {
  const auto put = [&out](uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0 | code_point >> 6);
    put(0x80 | (code_point & 0x3F));
  } else if (code_point < 0x10000) {
    put(0xE0 | code_point >> 12);
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  } else {
    put(0xF0 | code_point >> 18);
    put(0x80 | (code_point >> 12 & 0x3F));
    put(0x80 | (code_point >> 6 & 0x3F));
    put(0x80 | (code_point & 0x3F));
  }
}

}  // namespace tonnage::text
