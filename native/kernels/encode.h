// Sixteen rows of floats into blocks of a quantized format, as a checkpoint stores them.
#pragma once

#include "kernels/scale_search.h"
#include "tonnage/layout.h"

namespace tonnage::TONNAGE_ISA {

// One block of every row: x is [columns of the block][16], row r goes to out + r * stride.
struct Tile {
  const float* x;
  int rows;  // up to 16; what lies behind them is not written
  uint8_t* out;
  int64_t stride;
  uint8_t* row(int r) const { return out + r * stride; }
};

// Codes of a tile, [column][row].
template <int n> struct TileCodes {
  uint8_t at[n][16];
  void put(int column, F32 code) { store_s8(reinterpret_cast<int8_t*>(at[column]), round_i32(code)); }
  void row(int r, uint8_t* codes) const {
    for (int c = 0; c < n; ++c) codes[c] = at[c][r];
  }
};

// Writes `bits` bits from `shift` on of n codes: runs of `group` bytes hold 8 / bits runs of group codes,
// the lowest bits first.
inline void put_fields(const uint8_t* codes, int n, int shift, int bits, int group, uint8_t* out) {
  const int per_byte = 8 / bits, mask = (1 << bits) - 1;
  for (int run = 0; run < n / (group * per_byte); ++run)
    for (int i = 0; i < group; ++i) {
      int byte = 0;
      for (int j = 0; j < per_byte; ++j) byte |= (codes[(run * per_byte + j) * group + i] >> shift & mask) << bits * j;
      out[run * group + i] = static_cast<uint8_t>(byte);
    }
}

// A float16 per row.
struct Halves {
  uint16_t at[16];
  explicit Halves(F32 a) { store_f16(at, a); }
  void put(int r, uint8_t* out) const { std::memcpy(out, &at[r], 2); }
  bool finite(int r) const { return (at[r] & 0x7c00) != 0x7c00; }
};

// Whole numbers of a few bits per row, [index][row].
template <int n> struct Levels {
  int8_t at[n][16];
  explicit Levels(const F32* values) {
    for (int i = 0; i < n; ++i) store_s8(at[i], round_i32(values[i]));
  }
};

// Each writes one block of every row. Returns the first row whose scale float16 cannot hold, or -1. For W of Even
// and Weighted.
template <class W> int encode32(Layout target, const Tile& tile, W weights);
template <class W> int encode256(Layout target, const Tile& tile, W weights);

}  // namespace tonnage::TONNAGE_ISA
