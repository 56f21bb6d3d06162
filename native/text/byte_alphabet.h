// Two ways to write bytes: <0xNN>, as byte tokens are, and the printable alphabet of byte-level vocabularies (GPT-2):
// bytes 21..7E, A1..AC, AE..FF stand for themselves, the other 68 for U+0100 + their rank.
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

// Writes the letter of a byte.
inline void append_letter(std::string& out, uint32_t byte) {
  if (is_own_letter(byte)) return append_rune(out, byte);
  append_rune(out, 0x100 + (byte < 0x21 ? byte : byte == 0xAD ? 0x43 : 0x21 + byte - 0x7F));
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

// Byte of "<0xNN>", or -1.
inline int byte_of_name(std::string_view text) {
  if (text.size() != 6 || text.substr(0, 3) != "<0x" || text[5] != '>') return -1;
  int value = 0;
  for (const char c : text.substr(3, 2)) {
    const bool digit = c >= '0' && c <= '9';
    if (!digit && !(c >= 'A' && c <= 'F')) return -1;
    value = value * 16 + (digit ? c - '0' : c - 'A' + 10);
  }
  return value;
}

}  // namespace tonnage::text
