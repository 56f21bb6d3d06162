// The printable alphabet in which byte-level vocabularies are written (GPT-2): bytes 21..7E, A1..AC, AE..FF
// stand for themselves, the other 68 for U+0100 + their rank.
#pragma once

#include <string>
#include <string_view>

#include "text/unicode.h"

namespace tonnage::text {

inline bool is_own_letter(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

// Byte of a letter, or -1.
inline int byte_of_letter(uint32_t code_point) {
  if (code_point < 0x100) return is_own_letter(code_point) ? static_cast<int>(code_point) : -1;
  if (code_point > 0x143) return -1;
  const uint32_t rank = code_point - 0x100;
  if (rank <= 0x20) return static_cast<int>(rank);
  return static_cast<int>(rank <= 0x42 ? 0x7F + rank - 0x21 : 0xAD);
}

// Writes the bytes that `letters` stands for; false (and a partial result) on a letter that stands for none.
inline bool decode_letters(std::string_view letters, std::string& out) {
  out.clear();
  const char* p = letters.data();
  const char* end = p + letters.size();
  while (p < end) {
    const Rune rune = read_rune(p, end);
    const int byte = byte_of_letter(rune.code_point);
    if (byte < 0) return false;
    out.push_back(static_cast<char>(byte));
    p += rune.num_bytes;
  }
  return true;
}

}  // namespace tonnage::text
