// What turning rows of blocks into planes shares (layout.h).
#pragma once

#include <cstring>

#include "tonnage/vec.h"
#include "tonnage/layout.h"

namespace tonnage::TONNAGE_ISA {

// Raw codes of one block: [row][column], one byte each.
struct Codes {
  alignas(64) uint8_t at[kPanelRows][kBlockCols];
  uint32_t word(int row, int quad) const {
    uint32_t w;
    std::memcpy(&w, at[row] + 4 * quad, 4);
    return w;
  }
};

inline void put_word(uint8_t* line, int lane, uint32_t word) { std::memcpy(line + 4 * lane, &word, 4); }

// The low four bits of every code.
inline void write_nibbles(const Codes& codes, uint8_t* plane) {
  for (int g = 0; g < 2; ++g)
    for (int l = 0; l < 4; ++l)
      for (int r = 0; r < 16; ++r) {
        const uint32_t low = codes.word(16 * g + r, l) & 0x0f0f0f0fu;
        const uint32_t high = codes.word(16 * g + r, l + 4) & 0x0f0f0f0fu;
        put_word(plane + 256 * g + 64 * l, r, low | high << 4);
      }
}

// Bits from, from + 1 of every code.
template <int from> inline void write_two_bits(const Codes& codes, uint8_t* plane) {
  for (int g = 0; g < 2; ++g)
    for (int v = 0; v < 2; ++v)
      for (int r = 0; r < 16; ++r) {
        uint32_t word = 0;
        for (int s = 0; s < 4; ++s) word |= (codes.word(16 * g + r, 4 * v + s) >> from & 0x03030303u) << 2 * s;
        put_word(plane + 128 * g + 64 * v, r, word);
      }
}

// Bit `from` of every code.
template <int from> inline void write_one_bit(const Codes& codes, uint8_t* plane) {
  for (int g = 0; g < 2; ++g)
    for (int r = 0; r < 16; ++r) {
      uint32_t word = 0;
      for (int q = 0; q < 8; ++q) word |= (codes.word(16 * g + r, q) >> from & 0x01010101u) << q;
      put_word(plane + 64 * g, r, word);
    }
}

inline void write_bytes(const Codes& codes, uint8_t* plane) {
  for (int g = 0; g < 2; ++g)
    for (int q = 0; q < 8; ++q)
      for (int r = 0; r < 16; ++r) put_word(plane + 512 * g + 64 * q, r, codes.word(16 * g + r, q));
}

inline void put_half(uint8_t* scales, int row, const uint8_t* half) { std::memcpy(scales + 2 * row, half, 2); }

// Sixteen bytes with two codes each: low halves are columns 0..15, high halves 16..31.
inline void split_nibbles(const uint8_t* bytes, uint8_t* codes) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = bytes[i] & 15;
    codes[16 + i] = bytes[i] >> 4;
  }
}

struct Source {
  const uint8_t* data;
  int64_t rows;
  int64_t row_bytes;
  const uint8_t* block(int64_t row, int64_t index, int bytes) const { return data + row * row_bytes + index * bytes; }
};

// Panels of formats of few bits per weight (pack_few_bits.cc): block b of `in` to `out`.
void pack_few_bits(Layout layout, const Source& in, int64_t b, uint8_t* out);

}  // namespace tonnage::TONNAGE_ISA
