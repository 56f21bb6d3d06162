// Formats of one to four bits whose codes stand for entries of a small table. Included by formats.h.
#pragma once

#include "kernels/planes.h"

namespace tonnage::TONNAGE_ISA {

// Entries plus 128. IQ1: eighths of -1, 0 and 1, shifted up or down by one eighth.
alignas(16) inline constexpr uint8_t kThirdsShifted[16] = {121, 129, 137, 128, 119, 127, 135, 128};
// IQ2: eighths of three magnitudes of either sign.
alignas(16) inline constexpr uint8_t kThreeSigned[16] = {136, 153, 171, 128, 120, 103, 85, 128};
// IQ3_XXS, in quarters, and IQ3_S: eight magnitudes of either sign.
alignas(16) inline constexpr uint8_t kEightSigned[16] = {132, 140, 148, 156, 164, 172, 180, 190,
                                                         124, 116, 108, 100, 92,  84,  76,  66};
alignas(16) inline constexpr uint8_t kOddSigned[16] = {129, 131, 133, 135, 137, 139, 141, 143,
                                                       127, 125, 123, 121, 119, 117, 115, 113};
alignas(16) inline constexpr uint8_t kMinusOneToTwo[16] = {127, 128, 129, 130};
alignas(16) inline constexpr uint8_t kPlusMinusOne[16] = {127, 129};

// 2 s + 1 of four-bit scales.
inline F32 odd_scale(I32 s) { return to_f32(add(add(s, s), set(int32_t{1}))); }

// d[32], two four-bit scales of each row and block, then blocks of a two-bit and a one-bit plane.
template <const uint8_t* entries> struct ThreeBitLevels {
  static constexpr int kSuper = 8, kBytes = 3392;
  static constexpr bool kHalves = true, kAffine = false;
  const uint8_t* p;
  Table16 table;
  F32 d[2];
  explicit ThreeBitLevels(const uint8_t* super) : p(super), table(table16(entries)) {
    for (int g = 0; g < 2; ++g) d[g] = mul(load_f16(halves(p) + 16 * g), set(1.0f / 8));
  }
  const uint8_t* block(int j) const { return p + 320 + 384 * j; }
  template <int g, int q> U8 code(int j) const {
    return lookup(table, bytes_or(two_bits<q, 0>(block(j) + 128 * g), one_bit<q, 2>(block(j) + 256 + 64 * g)));
  }
  template <int g, int h> F32 scale(int j) const {
    const I32 both = widen_u8(p + 64 + 32 * j + 16 * g);
    return mul(d[g], odd_scale(bit_and(shift_right(both, 4 * h), 15)));
  }
};

// d[32], a four-bit scale of each row and block, then blocks of a nibble plane. Entries are `parts`-ths.
template <const uint8_t* entries, int parts> struct FourBitLevels {
  static constexpr int kSuper = 8, kBytes = 4288;
  static constexpr bool kHalves = false, kAffine = false;
  const uint8_t* p;
  Table16 table;
  F32 d[2];
  explicit FourBitLevels(const uint8_t* super) : p(super), table(table16(entries)) {
    for (int g = 0; g < 2; ++g) d[g] = mul(load_f16(halves(p) + 16 * g), set(1.0f / parts));
  }
  template <int g, int q> U8 code(int j) const { return lookup(table, nibble<q, 0>(p + 192 + 512 * j + 256 * g)); }
  template <int g, int h> F32 scale(int j) const {
    return mul(d[g], odd_scale(bit_and(shift_right(widen_u8(p + 64 + 16 * j), 4 * g), 15)));
  }
};

// d[32], then `super` blocks of two-bit planes.
template <int super> struct TwoBits {
  static constexpr int kSuper = super, kBytes = 64 + 256 * super;
  static constexpr bool kHalves = false, kAffine = false;
  const uint8_t* p;
  Table16 table;
  explicit TwoBits(const uint8_t* start) : p(start), table(table16(kMinusOneToTwo)) {}
  template <int g, int q> U8 code(int j) const { return lookup(table, two_bits<q, 0>(p + 64 + 256 * j + 128 * g)); }
  template <int g, int h> F32 scale(int) const { return load_f16(halves(p) + 16 * g); }
};

// d[32], then four blocks of one-bit planes.
struct OneBit {
  static constexpr int kSuper = 4, kBytes = 576;
  static constexpr bool kHalves = false, kAffine = false;
  const uint8_t* p;
  Table16 table;
  explicit OneBit(const uint8_t* super) : p(super), table(table16(kPlusMinusOne)) {}
  template <int g, int q> U8 code(int j) const { return lookup(table, one_bit<q, 0>(p + 64 + 128 * j + 64 * g)); }
  template <int g, int h> F32 scale(int) const { return load_f16(halves(p) + 16 * g); }
};

}  // namespace tonnage::TONNAGE_ISA
