// How the codes and scales of one block of 32 rows x 32 columns come out of each layout.
//
// Every format turns into unsigned byte codes with weight = scale * (code - 128), or, if affine, weight
// = scale * code + offset. A format F is a view of F::kSuper blocks in F::kBytes; of its block j it gives
//   code<g, q>(j)     64 codes: group g, columns 4q..4q+3
//   scale<g, h>(j)    sixteen scales of group g; h = which half of 16 columns, if F::kHalves
//   offset<g, h>(j)   the same for affine formats
#pragma once

#include "kernels/few_bits.h"
#include "kernels/planes.h"

namespace tonnage::TONNAGE_ISA {

// Eight six-bit sub-scales of 32 rows. In memory: 128 bytes of low nibbles, byte 16 s + r with group 0 in
// the low half, then 64 bytes of top bits, byte 16 (s % 4) + r with bits 4 (s / 4) + 2 g.
struct SixBits {
  alignas(64) uint8_t codes[256];

  void decode(const uint8_t* low, const uint8_t* top_plane) {
    const U8 top = load_u8(top_plane);
    unroll<2>([&](auto half) __attribute__((always_inline)) {
      const U8 line = load_u8(low + 64 * half);
      unroll<2>([&](auto g) __attribute__((always_inline)) {
        constexpr int from = 4 * half + 2 * g;
        const U8 nibbles = bytes_and(bytes_right<4 * g>(line), 0x0f);
        U8 bits = top;
        if constexpr (from < 4) bits = bytes_left<4 - from>(top);
        if constexpr (from > 4) bits = bytes_right<from - 4>(top);
        store_u8(codes + 64 * (2 * half + g), bytes_or(nibbles, bytes_and(bits, 0x30)));
      });
    });
  }

  template <int g> I32 get(int s) const { return widen_u8(codes + 64 * (2 * (s >> 2) + g) + 16 * (s & 3)); }
};

alignas(16) inline constexpr uint8_t kNonLinear[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                       129, 141, 153, 166, 181, 197, 217, 241};
// Twice the E2M1 values, plus 128.
alignas(16) inline constexpr uint8_t kE2M1[16] = {128, 129, 130, 131, 132, 134, 136, 140,
                                                  128, 127, 126, 125, 124, 122, 120, 116};

template <Layout layout> struct Format;

template <> struct Format<Layout::Q4_0> {
  static constexpr int kSuper = 1, kBytes = 576;
  static constexpr bool kHalves = false, kAffine = false;
  const uint8_t* p;
  explicit Format(const uint8_t* super) : p(super) {}
  template <int g, int q> U8 code(int) const { return nibble<q, 4>(p + 64 + 256 * g); }
  template <int g, int h> F32 scale(int) const { return mul(load_f16(halves(p) + 16 * g), set(1.0f / 16)); }
};

template <> struct Format<Layout::Q4_1> {
  static constexpr int kSuper = 1, kBytes = 640;
  static constexpr bool kHalves = false, kAffine = true;
  const uint8_t* p;
  explicit Format(const uint8_t* super) : p(super) {}
  template <int g, int q> U8 code(int) const { return nibble<q, 0>(p + 128 + 256 * g); }
  template <int g, int h> F32 scale(int) const { return load_f16(halves(p) + 16 * g); }
  template <int g, int h> F32 offset(int) const { return load_f16(halves(p + 64) + 16 * g); }
};

template <> struct Format<Layout::Q5_0> {
  static constexpr int kSuper = 1, kBytes = 704;
  static constexpr bool kHalves = false, kAffine = false;
  const uint8_t* p;
  explicit Format(const uint8_t* super) : p(super) {}
  template <int g, int q> U8 code(int) const {
    return bytes_or(nibble<q, 3>(p + 64 + 256 * g), one_bit<q, 7>(p + 576 + 64 * g));
  }
  template <int g, int h> F32 scale(int) const { return mul(load_f16(halves(p) + 16 * g), set(1.0f / 8)); }
};

template <> struct Format<Layout::Q5_1> {
  static constexpr int kSuper = 1, kBytes = 768;
  static constexpr bool kHalves = false, kAffine = true;
  const uint8_t* p;
  explicit Format(const uint8_t* super) : p(super) {}
  template <int g, int q> U8 code(int) const {
    return bytes_or(nibble<q, 0>(p + 128 + 256 * g), one_bit<q, 4>(p + 640 + 64 * g));
  }
  template <int g, int h> F32 scale(int) const { return load_f16(halves(p) + 16 * g); }
  template <int g, int h> F32 offset(int) const { return load_f16(halves(p + 64) + 16 * g); }
};

template <> struct Format<Layout::Q8_0> {
  static constexpr int kSuper = 1, kBytes = 1088;
  static constexpr bool kHalves = false, kAffine = false;
  const uint8_t* p;
  explicit Format(const uint8_t* super) : p(super) {}
  template <int g, int q> U8 code(int) const { return load_u8(p + 64 + 512 * g + 64 * q); }
  template <int g, int h> F32 scale(int) const { return load_f16(halves(p) + 16 * g); }
};

template <> struct Format<Layout::IQ4_NL> {
  static constexpr int kSuper = 1, kBytes = 576;
  static constexpr bool kHalves = false, kAffine = false;
  const uint8_t* p;
  Table16 table;
  explicit Format(const uint8_t* super) : p(super), table(table16(kNonLinear)) {}
  template <int g, int q> U8 code(int) const { return lookup(table, nibble<q, 0>(p + 64 + 256 * g)); }
  template <int g, int h> F32 scale(int) const { return load_f16(halves(p) + 16 * g); }
};

template <> struct Format<Layout::MXFP4> {
  static constexpr int kSuper = 1, kBytes = 576;
  static constexpr bool kHalves = false, kAffine = false;
  const uint8_t* p;
  Table16 table;
  explicit Format(const uint8_t* super) : p(super), table(table16(kE2M1)) {}
  template <int g, int q> U8 code(int) const { return lookup(table, nibble<q, 0>(p + 64 + 256 * g)); }
  template <int g, int h> F32 scale(int) const { return load_bf16(halves(p) + 16 * g); }
};

// d[32], dmin[32], six-bit scales and mins of eight blocks, then the blocks.
template <int block_bytes> struct ScaleMin {
  static constexpr int kSuper = 8, kBytes = 512 + 8 * block_bytes;
  static constexpr bool kHalves = false, kAffine = true;
  const uint8_t* p;
  F32 d[2], negative_min[2];
  SixBits scales, mins;
  explicit ScaleMin(const uint8_t* super) : p(super) {
    for (int g = 0; g < 2; ++g) {
      d[g] = load_f16(halves(p) + 16 * g);
      negative_min[g] = sub(zero_f(), load_f16(halves(p + 64) + 16 * g));
    }
    scales.decode(p + 128, p + 256);
    mins.decode(p + 320, p + 448);
  }
  const uint8_t* block(int j) const { return p + 512 + block_bytes * j; }
  template <int g, int h> F32 scale(int j) const { return mul(d[g], to_f32(scales.template get<g>(j))); }
  template <int g, int h> F32 offset(int j) const { return mul(negative_min[g], to_f32(mins.template get<g>(j))); }
};

template <> struct Format<Layout::Q4_K> : ScaleMin<512> {
  using ScaleMin::ScaleMin;
  template <int g, int q> U8 code(int j) const { return nibble<q, 0>(block(j) + 256 * g); }
};

template <> struct Format<Layout::Q5_K> : ScaleMin<640> {
  using ScaleMin::ScaleMin;
  template <int g, int q> U8 code(int j) const {
    return bytes_or(nibble<q, 0>(block(j) + 256 * g), one_bit<q, 4>(block(j) + 512 + 64 * g));
  }
};

template <> struct Format<Layout::Q6_K> {
  static constexpr int kSuper = 8, kBytes = 6720;
  static constexpr bool kHalves = true, kAffine = false;
  const uint8_t* p;
  F32 d[2];
  explicit Format(const uint8_t* super) : p(super) {
    for (int g = 0; g < 2; ++g) d[g] = mul(load_f16(halves(p) + 16 * g), set(1.0f / 4));
  }
  const uint8_t* block(int j) const { return p + 576 + 768 * j; }
  template <int g, int q> U8 code(int j) const {
    return bytes_or(nibble<q, 2>(block(j) + 256 * g), two_bits<q, 6>(block(j) + 512 + 128 * g));
  }
  template <int g, int h> F32 scale(int j) const {
    return mul(d[g], to_f32(widen_s8(p + 64 + 32 * (2 * j + h) + 16 * g)));
  }
};

template <> struct Format<Layout::Q3_K> {
  static constexpr int kSuper = 8, kBytes = 3520;
  static constexpr bool kHalves = true, kAffine = false;
  const uint8_t* p;
  F32 d[2];
  SixBits scales[2];  // of blocks 0..3 and 4..7
  explicit Format(const uint8_t* super) : p(super) {
    for (int g = 0; g < 2; ++g) {
      d[g] = mul(load_f16(halves(p) + 16 * g), set(1.0f / 32));
      scales[g].decode(p + 64 + 128 * g, p + 320 + 64 * g);
    }
  }
  const uint8_t* block(int j) const { return p + 448 + 384 * j; }
  template <int g, int q> U8 code(int j) const {
    return bytes_or(two_bits<q, 5>(block(j) + 128 * g), one_bit<q, 7>(block(j) + 256 + 64 * g));
  }
  template <int g, int h> F32 scale(int j) const {
    const I32 stored = scales[j >> 2].template get<g>(2 * (j & 3) + h);
    return mul(d[g], to_f32(add(stored, set(int32_t{-32}))));
  }
};

template <> struct Format<Layout::Q2_K> {
  static constexpr int kSuper = 8, kBytes = 2688;
  static constexpr bool kHalves = true, kAffine = true;
  const uint8_t* p;
  F32 d[2], negative_min[2];
  explicit Format(const uint8_t* super) : p(super) {
    for (int g = 0; g < 2; ++g) {
      d[g] = load_f16(halves(p) + 16 * g);
      negative_min[g] = sub(zero_f(), load_f16(halves(p + 64) + 16 * g));
    }
  }
  template <int g, int q> U8 code(int j) const { return two_bits<q, 0>(p + 640 + 256 * j + 128 * g); }
  template <int g, int h> I32 nibbles(int j) const { return widen_u8(p + 128 + 32 * (2 * j + h) + 16 * g); }
  template <int g, int h> F32 scale(int j) const { return mul(d[g], to_f32(bit_and(nibbles<g, h>(j), 15))); }
  template <int g, int h> F32 offset(int j) const {
    return mul(negative_min[g], to_f32(shift_right(nibbles<g, h>(j), 4)));
  }
};

template <> struct Format<Layout::IQ4_XS> {
  static constexpr int kSuper = 8, kBytes = 4352;
  static constexpr bool kHalves = false, kAffine = false;
  const uint8_t* p;
  Table16 table;
  F32 d[2];
  SixBits scales;
  explicit Format(const uint8_t* super) : p(super), table(table16(kNonLinear)) {
    for (int g = 0; g < 2; ++g) d[g] = load_f16(halves(p) + 16 * g);
    scales.decode(p + 64, p + 192);
  }
  template <int g, int q> U8 code(int j) const { return lookup(table, nibble<q, 0>(p + 256 + 512 * j + 256 * g)); }
  template <int g, int h> F32 scale(int j) const {
    return mul(d[g], to_f32(add(scales.template get<g>(j), set(int32_t{-32}))));
  }
};

template <> struct Format<Layout::IQ1_M> : ThreeBitLevels<kThirdsShifted> { using ThreeBitLevels::ThreeBitLevels; };
template <> struct Format<Layout::IQ2_S> : ThreeBitLevels<kThreeSigned> { using ThreeBitLevels::ThreeBitLevels; };
template <> struct Format<Layout::IQ3_XXS> : FourBitLevels<kEightSigned, 4> { using FourBitLevels::FourBitLevels; };
template <> struct Format<Layout::IQ3_S> : FourBitLevels<kOddSigned, 1> { using FourBitLevels::FourBitLevels; };
template <> struct Format<Layout::TQ2_0> : TwoBits<8> { using TwoBits::TwoBits; };
template <> struct Format<Layout::Q2_0> : TwoBits<2> { using TwoBits::TwoBits; };
template <> struct Format<Layout::Q1_0> : OneBit { using OneBit::OneBit; };

// Of 64 columns: the tensor's scale, four scales of each row in eight bits, then two blocks of nibble planes.
template <> struct Format<Layout::NVFP4> {
  static constexpr int kSuper = 2, kBytes = 1216;
  static constexpr bool kHalves = true, kAffine = false;
  const uint8_t* p;
  Table16 table;
  F32 whole;
  explicit Format(const uint8_t* super) : p(super), table(table16(kE2M1)), whole(load(reinterpret_cast<const float*>(p))) {}
  template <int g, int q> U8 code(int j) const { return lookup(table, nibble<q, 0>(p + 192 + 512 * j + 256 * g)); }
  template <int g, int h> F32 scale(int j) const {
    // Four bits of exponent and three of fraction, moved to where float has them, are 2^-120 times too small.
    const F32 raw = bits_to_f32(shift_left(widen_u8(p + 64 + 32 * (2 * j + h) + 16 * g), 20));
    return mul(whole, mul(raw, set(0x1p119f)));  // and halved, for codes of twice the values
  }
};

// Blocks already unpacked: 1024 codes, then scales and offsets as floats.
template <bool halves_, bool affine> struct Unpacked {
  static constexpr bool kHalves = halves_, kAffine = affine;
  static constexpr int kParts = halves_ ? 2 : 1;
  static constexpr int kSuper = 1, kBytes = 1024 + 128 * kParts * (affine ? 2 : 1);
  const uint8_t* p;
  explicit Unpacked(const uint8_t* super) : p(super) {}
  const float* floats() const { return reinterpret_cast<const float*>(p + 1024); }
  template <int g, int q> U8 code(int) const { return load_u8(p + 512 * g + 64 * q); }
  template <int g, int h> F32 scale(int) const { return load(floats() + 16 * (kParts * g + h)); }
  template <int g, int h> F32 offset(int) const { return load(floats() + 32 * kParts + 16 * (kParts * g + h)); }
};

// Writes block j of F in the form that Unpacked reads.
template <class F>
inline void unpack_block(const F& super, int j, uint8_t* out) {
  constexpr int parts = F::kHalves ? 2 : 1;
  auto* floats = reinterpret_cast<float*>(out + 1024);
  unroll<2>([&](auto g) __attribute__((always_inline)) {
    unroll<8>([&](auto q) __attribute__((always_inline)) {
      store_u8(out + 512 * g + 64 * q, super.template code<g, q>(j));
    });
    unroll<parts>([&](auto h) __attribute__((always_inline)) {
      store(floats + 16 * (parts * g + h), super.template scale<g, h>(j));
      if constexpr (F::kAffine) store(floats + 32 * parts + 16 * (parts * g + h), super.template offset<g, h>(j));
    });
  });
}

// Calls fn(std::integral_constant<Layout, l>) for a quantized layout, one of those that panel_layout returns.
template <class Fn>
inline void with_quantized(Layout layout, Fn&& fn) {
  switch (layout) {
#define TONNAGE_CASE(name) \
  case Layout::name: fn(std::integral_constant<Layout, Layout::name>{}); break;
    TONNAGE_CASE(Q4_0) TONNAGE_CASE(Q4_1) TONNAGE_CASE(Q5_0) TONNAGE_CASE(Q5_1) TONNAGE_CASE(Q8_0)
    TONNAGE_CASE(Q2_K) TONNAGE_CASE(Q3_K) TONNAGE_CASE(Q4_K) TONNAGE_CASE(Q5_K) TONNAGE_CASE(Q6_K)
    TONNAGE_CASE(IQ4_NL) TONNAGE_CASE(IQ4_XS) TONNAGE_CASE(MXFP4) TONNAGE_CASE(NVFP4)
    TONNAGE_CASE(IQ1_M) TONNAGE_CASE(IQ2_S) TONNAGE_CASE(IQ3_XXS) TONNAGE_CASE(IQ3_S)
    TONNAGE_CASE(TQ2_0) TONNAGE_CASE(Q2_0) TONNAGE_CASE(Q1_0)
#undef TONNAGE_CASE
    default: break;
  }
}

}  // namespace tonnage::TONNAGE_ISA
