// Rows of formats of one to four bits to the panels that few_bits.h reads.
#include <cstring>

#include "grid_blocks.h"
#include "kernels/pack.h"

namespace tonnage::TONNAGE_ISA {

namespace {

// The IQ formats: `three` bits and scales of 16 columns, or four bits and scales of 32.
template <bool three> void pack_levels(Layout layout, const Source& in, int64_t b, int bytes, uint8_t* out) {
  GridBlock rows[kPanelRows];
  for (int r = 0; r < in.rows; ++r) {
    read_grid_block(layout, in.block(r, b, bytes), &rows[r]);
    std::memcpy(out + 2 * r, &rows[r].d, 2);
    for (int j = 0; j < 8; ++j) {
      const uint8_t* s = rows[r].scales;
      if (three) out[64 + 32 * j + r] = static_cast<uint8_t>(s[2 * j] | s[2 * j + 1] << 4);
      else out[64 + 16 * j + r % 16] |= static_cast<uint8_t>(s[j] << 4 * (r / 16));
    }
  }
  for (int j = 0; j < 8; ++j) {
    Codes codes = {};
    for (int r = 0; r < in.rows; ++r) std::memcpy(codes.at[r], rows[r].codes + 32 * j, 32);
    if constexpr (three) {
      write_two_bits<0>(codes, out + 320 + 384 * j);
      write_one_bit<2>(codes, out + 320 + 384 * j + 256);
    } else {
      write_nibbles(codes, out + 192 + 512 * j);
    }
  }
}

// Code i of 256 in bytes of five codes of three values: the upper digit of what is left after multiplying.
uint8_t ternary(const uint8_t* p, int i) {
  constexpr uint8_t kPowers[5] = {1, 3, 9, 27, 81};
  int byte, digit;
  if (i < 160) byte = i % 32, digit = i / 32;
  else if (i < 240) byte = 32 + (i - 160) % 16, digit = (i - 160) / 16;
  else byte = 48 + (i - 240) % 4, digit = (i - 240) / 4;
  const auto left = static_cast<uint8_t>(p[byte] * kPowers[digit]);
  return static_cast<uint8_t>(left * 3 >> 8);
}

void pack_ternary(Layout layout, const Source& in, int64_t b, uint8_t* out) {
  const int bytes = layout_shape(layout).source_bytes;
  for (int r = 0; r < in.rows; ++r) put_half(out, r, in.block(r, b, bytes) + bytes - 2);
  for (int j = 0; j < 8; ++j) {
    Codes codes = {};
    for (int r = 0; r < in.rows; ++r) {
      const uint8_t* p = in.block(r, b, bytes);
      for (int i = 0; i < 32; ++i)
        codes.at[r][i] = layout == Layout::TQ1_0 ? ternary(p, 32 * j + i)
                                                 : static_cast<uint8_t>(p[32 * (j / 4) + i] >> 2 * (j % 4) & 3);
    }
    write_two_bits<0>(codes, out + 64 + 256 * j);
  }
}

// Q1_0 and Q2_0: d, then codes of `bits` bits in the order of columns, the lowest bits first.
template <int bits, int blocks> void pack_in_order(const Source& in, int64_t b, uint8_t* out) {
  constexpr int bytes = 2 + 4 * bits * blocks;
  for (int r = 0; r < in.rows; ++r) put_half(out, r, in.block(r, b, bytes));
  for (int j = 0; j < blocks; ++j) {
    Codes codes = {};
    for (int r = 0; r < in.rows; ++r) {
      const uint8_t* p = in.block(r, b, bytes) + 2 + 4 * bits * j;
      for (int i = 0; i < 32; ++i) codes.at[r][i] = p[i * bits / 8] >> i * bits % 8 & ((1 << bits) - 1);
    }
    uint8_t* plane = out + 64 + 128 * bits * j;
    if constexpr (bits == 2) write_two_bits<0>(codes, plane);
    else write_one_bit<0>(codes, plane);
  }
}

void pack_nvfp4(const Source& in, int64_t b, uint8_t* out) {
  const float one = 1;
  for (int lane = 0; lane < 16; ++lane) std::memcpy(out + 4 * lane, &one, 4);
  for (int r = 0; r < in.rows; ++r) {
    const uint8_t* p = in.block(r, b, 36);
    // The sign of a scale does not count, and 127, no number, is read as 0.
    for (int s = 0; s < 4; ++s) out[64 + 32 * s + r] = p[s] == 127 ? 0 : p[s] & 127;
  }
  for (int j = 0; j < 2; ++j) {
    Codes codes = {};
    for (int r = 0; r < in.rows; ++r) {
      const uint8_t* p = in.block(r, b, 36) + 4 + 16 * j;
      for (int i = 0; i < 32; ++i) codes.at[r][i] = p[8 * (i / 16) + i % 8] >> 4 * (i / 8 % 2) & 15;
    }
    write_nibbles(codes, out + 192 + 512 * j);
  }
}

}  // namespace

void pack_few_bits(Layout layout, const Source& in, int64_t b, uint8_t* out) {
  const int bytes = layout_shape(layout).source_bytes;
  switch (layout) {
    case Layout::IQ1_S:
    case Layout::IQ1_M:
    case Layout::IQ2_XXS:
    case Layout::IQ2_XS:
    case Layout::IQ2_S: return pack_levels<true>(layout, in, b, bytes, out);
    case Layout::IQ3_XXS:
    case Layout::IQ3_S: return pack_levels<false>(layout, in, b, bytes, out);
    case Layout::TQ1_0:
    case Layout::TQ2_0: return pack_ternary(layout, in, b, out);
    case Layout::Q1_0: return pack_in_order<1, 4>(in, b, out);
    case Layout::Q2_0: return pack_in_order<2, 2>(in, b, out);
    case Layout::NVFP4: return pack_nvfp4(in, b, out);
    default: return;
  }
}

}  // namespace tonnage::TONNAGE_ISA
