// How the codes and scales of one block of 32 rows x 32 columns come out of each layout.
//
// Every format turns into unsigned byte codes with weight = scale * (code - 128), or, if affine, weight
// = scale * code + offset. A format F offers F::kBytes per F::kSuper blocks and a view of one block:
//   code<g, q>()      64 codes: group g, columns 4q..4q+3
//   scale<g, h>()     sixteen scales of group g; h = which half of 16 columns, if F::kHalves
//   offset<g, h>()    the same for affine formats
#pragma once

#include <utility>

#include "tonnage/layout.h"
#include "tonnage/vec.h"

namespace tonnage::TONNAGE_ISA {

template <int n, class Fn>
[[gnu::always_inline]] inline void unroll(Fn&& fn) {
  [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
    (fn(std::integral_constant<int, i>{}), ...);
  }(std::make_integer_sequence<int, n>{});
}

inline const uint16_t* halves(const uint8_t* p) { return reinterpret_cast<const uint16_t*>(p); }

// Four bits of quad q from a nibble plane, moved up by `up`.
template <int q, int up>
inline U8 nibble(const uint8_t* plane) {
  const U8 line = load_u8(plane + 64 * (q & 3));
  constexpr auto mask = static_cast<uint8_t>(0x0f << up);
  if constexpr (q < 4) return bytes_and(bytes_left<up>(line), mask);
  return bytes_and(bytes_right<4 - up>(line), mask);
}

// Two bits of quad q from a two-bit plane, at bits up and up + 1.
template <int q, int up>
inline U8 two_bits(const uint8_t* plane) {
  const U8 line = load_u8(plane + 64 * (q >> 2));
  constexpr auto mask = static_cast<uint8_t>(0x03 << up);
  constexpr int from = 2 * (q & 3);
  if constexpr (from <= up) return bytes_and(bytes_left<up - from>(line), mask);
  else return bytes_and(bytes_right<from - up>(line), mask);
}

// Bit q of a one-bit plane, at bit up.
template <int q, int up>
inline U8 one_bit(const uint8_t* plane) {
  const U8 line = load_u8(plane);
  constexpr auto mask = static_cast<uint8_t>(1 << up);
  if constexpr (q <= up) return bytes_and(bytes_left<up - q>(line), mask);
  else return bytes_and(bytes_right<q - up>(line), mask);
}

// Six-bit sub-scale s of sixteen rows: 16 bytes per s of low nibbles (group 0 low, group 1 high), then
// 16 bytes per pair of s of top bits.
template <int g>
inline I32 six_bits(const uint8_t* low, const uint8_t* top, int s) {
  const I32 a = bit_and(shift_right(widen_u8(low + 16 * s), 4 * g), 15);
  const I32 b = bit_and(shift_right(widen_u8(top + 16 * (s >> 1)), 2 * (2 * (s & 1) + g)), 3);
  return bit_or(a, shift_left(b, 4));
}

alignas(16) inline constexpr uint8_t kNonLinear[16] = {1,   24,  45,  63,  79,  93,  106, 118,
                                                       129, 141, 153, 166, 181, 197, 217, 241};
// Twice the E2M1 values, plus 128.
alignas(16) inline constexpr uint8_t kE2M1[16] = {128, 129, 130, 131, 132, 134, 136, 140,
                                                  128, 127, 126, 125, 124, 122, 120, 116};

template <Layout layout> struct Format;

template <> struct Format<Layout::Q4_0> {
  static constexpr int kSuper = 1, kBytes = 576;
  static constexpr bool kHalves = false, kAffine = false, kPacked = true;
  const uint8_t* p;
  Format(const uint8_t* super, int) : p(super) {}
  template <int g, int q> U8 code() const { return nibble<q, 4>(p + 64 + 256 * g); }
  template <int g, int h> F32 scale() const { return mul(load_f16(halves(p) + 16 * g), set(1.0f / 16)); }
};

template <> struct Format<Layout::Q4_1> {
  static constexpr int kSuper = 1, kBytes = 640;
  static constexpr bool kHalves = false, kAffine = true, kPacked = true;
  const uint8_t* p;
  Format(const uint8_t* super, int) : p(super) {}
  template <int g, int q> U8 code() const { return nibble<q, 0>(p + 128 + 256 * g); }
  template <int g, int h> F32 scale() const { return load_f16(halves(p) + 16 * g); }
  template <int g, int h> F32 offset() const { return load_f16(halves(p + 64) + 16 * g); }
};

template <> struct Format<Layout::Q5_0> {
  static constexpr int kSuper = 1, kBytes = 704;
  static constexpr bool kHalves = false, kAffine = false, kPacked = true;
  const uint8_t* p;
  Format(const uint8_t* super, int) : p(super) {}
  template <int g, int q> U8 code() const {
    return bytes_or(nibble<q, 3>(p + 64 + 256 * g), one_bit<q, 7>(p + 576 + 64 * g));
  }
  template <int g, int h> F32 scale() const { return mul(load_f16(halves(p) + 16 * g), set(1.0f / 8)); }
};

template <> struct Format<Layout::Q5_1> {
  static constexpr int kSuper = 1, kBytes = 768;
  static constexpr bool kHalves = false, kAffine = true, kPacked = true;
  const uint8_t* p;
  Format(const uint8_t* super, int) : p(super) {}
  template <int g, int q> U8 code() const {
    return bytes_or(nibble<q, 0>(p + 128 + 256 * g), one_bit<q, 4>(p + 640 + 64 * g));
  }
  template <int g, int h> F32 scale() const { return load_f16(halves(p) + 16 * g); }
  template <int g, int h> F32 offset() const { return load_f16(halves(p + 64) + 16 * g); }
};

template <> struct Format<Layout::Q8_0> {
  static constexpr int kSuper = 1, kBytes = 1088;
  static constexpr bool kHalves = false, kAffine = false, kPacked = true;
  const uint8_t* p;
  Format(const uint8_t* super, int) : p(super) {}
  template <int g, int q> U8 code() const { return load_u8(p + 64 + 512 * g + 64 * q); }
  template <int g, int h> F32 scale() const { return load_f16(halves(p) + 16 * g); }
};

template <> struct Format<Layout::IQ4_NL> {
  static constexpr int kSuper = 1, kBytes = 576;
  static constexpr bool kHalves = false, kAffine = false, kPacked = true;
  const uint8_t* p;
  Table16 table;
  Format(const uint8_t* super, int) : p(super), table(table16(kNonLinear)) {}
  template <int g, int q> U8 code() const { return lookup(table, nibble<q, 0>(p + 64 + 256 * g)); }
  template <int g, int h> F32 scale() const { return load_f16(halves(p) + 16 * g); }
};

template <> struct Format<Layout::MXFP4> {
  static constexpr int kSuper = 1, kBytes = 576;
  static constexpr bool kHalves = false, kAffine = false, kPacked = true;
  const uint8_t* p;
  Table16 table;
  Format(const uint8_t* super, int) : p(super), table(table16(kE2M1)) {}
  template <int g, int q> U8 code() const { return lookup(table, nibble<q, 0>(p + 64 + 256 * g)); }
  template <int g, int h> F32 scale() const { return mul(load_bf16(halves(p) + 16 * g), set(0.5f)); }
};

// d[32], dmin[32], six-bit scales and mins of eight blocks, then the blocks.
template <int block_bytes> struct ScaleMin {
  static constexpr int kSuper = 8, kBytes = 512 + 8 * block_bytes;
  static constexpr bool kHalves = false, kAffine = true, kPacked = true;
  const uint8_t* p;
  int j;
  ScaleMin(const uint8_t* super, int block) : p(super), j(block) {}
  const uint8_t* block() const { return p + 512 + block_bytes * j; }
  template <int g, int h> F32 scale() const {
    return mul(load_f16(halves(p) + 16 * g), to_f32(six_bits<g>(p + 128, p + 256, j)));
  }
  template <int g, int h> F32 offset() const {
    const F32 min = load_f16(halves(p + 64) + 16 * g);
    return mul(sub(zero_f(), min), to_f32(six_bits<g>(p + 320, p + 448, j)));
  }
};

template <> struct Format<Layout::Q4_K> : ScaleMin<512> {
  using ScaleMin::ScaleMin;
  template <int g, int q> U8 code() const { return nibble<q, 0>(block() + 256 * g); }
};

template <> struct Format<Layout::Q5_K> : ScaleMin<640> {
  using ScaleMin::ScaleMin;
  template <int g, int q> U8 code() const {
    return bytes_or(nibble<q, 0>(block() + 256 * g), one_bit<q, 4>(block() + 512 + 64 * g));
  }
};

template <> struct Format<Layout::Q6_K> {
  static constexpr int kSuper = 8, kBytes = 6720;
  static constexpr bool kHalves = true, kAffine = false, kPacked = true;
  const uint8_t* p;
  int j;
  Format(const uint8_t* super, int block) : p(super), j(block) {}
  const uint8_t* block() const { return p + 576 + 768 * j; }
  template <int g, int q> U8 code() const {
    return bytes_or(nibble<q, 2>(block() + 256 * g), two_bits<q, 6>(block() + 512 + 128 * g));
  }
  template <int g, int h> F32 scale() const {
    const F32 d = mul(load_f16(halves(p) + 16 * g), set(1.0f / 4));
    return mul(d, to_f32(widen_s8(p + 64 + 32 * (2 * j + h) + 16 * g)));
  }
};

template <> struct Format<Layout::Q3_K> {
  static constexpr int kSuper = 8, kBytes = 3520;
  static constexpr bool kHalves = true, kAffine = false, kPacked = true;
  const uint8_t* p;
  int j;
  Format(const uint8_t* super, int block) : p(super), j(block) {}
  const uint8_t* block() const { return p + 448 + 384 * j; }
  template <int g, int q> U8 code() const {
    return bytes_or(two_bits<q, 5>(block() + 128 * g), one_bit<q, 7>(block() + 256 + 64 * g));
  }
  template <int g, int h> F32 scale() const {
    const F32 d = mul(load_f16(halves(p) + 16 * g), set(1.0f / 32));
    return mul(d, to_f32(add(six_bits<g>(p + 64, p + 320, 2 * j + h), set(int32_t{-32}))));
  }
};

template <> struct Format<Layout::Q2_K> {
  static constexpr int kSuper = 8, kBytes = 2688;
  static constexpr bool kHalves = true, kAffine = true, kPacked = true;
  const uint8_t* p;
  int j;
  Format(const uint8_t* super, int block) : p(super), j(block) {}
  template <int g, int q> U8 code() const { return two_bits<q, 0>(p + 640 + 256 * j + 128 * g); }
  template <int g, int h> I32 nibbles() const { return widen_u8(p + 128 + 32 * (2 * j + h) + 16 * g); }
  template <int g, int h> F32 scale() const {
    return mul(load_f16(halves(p) + 16 * g), to_f32(bit_and(nibbles<g, h>(), 15)));
  }
  template <int g, int h> F32 offset() const {
    const F32 min = load_f16(halves(p + 64) + 16 * g);
    return mul(sub(zero_f(), min), to_f32(shift_right(nibbles<g, h>(), 4)));
  }
};

template <> struct Format<Layout::IQ4_XS> {
  static constexpr int kSuper = 8, kBytes = 4352;
  static constexpr bool kHalves = false, kAffine = false, kPacked = true;
  const uint8_t* p;
  int j;
  Table16 table;
  Format(const uint8_t* super, int block) : p(super), j(block), table(table16(kNonLinear)) {}
  template <int g, int q> U8 code() const { return lookup(table, nibble<q, 0>(p + 256 + 512 * j + 256 * g)); }
  template <int g, int h> F32 scale() const {
    const I32 sub_scale = add(six_bits<g>(p + 64, p + 192, j), set(int32_t{-32}));
    return mul(load_f16(halves(p) + 16 * g), to_f32(sub_scale));
  }
};

// Blocks already unpacked: 1024 codes, then scales and offsets as floats.
template <bool halves_, bool affine> struct Unpacked {
  static constexpr bool kHalves = halves_, kAffine = affine, kPacked = false;
  static constexpr int kParts = halves_ ? 2 : 1;
  static constexpr int kSuper = 1, kBytes = 1024 + 128 * kParts * (affine ? 2 : 1);
  const uint8_t* p;
  Unpacked(const uint8_t* super, int) : p(super) {}
  const float* floats() const { return reinterpret_cast<const float*>(p + 1024); }
  template <int g, int q> U8 code() const { return load_u8(p + 512 * g + 64 * q); }
  template <int g, int h> F32 scale() const { return load(floats() + 16 * (kParts * g + h)); }
  template <int g, int h> F32 offset() const { return load(floats() + 32 * kParts + 16 * (kParts * g + h)); }
};

// Writes one block of F in the form that Unpacked reads.
template <class F>
inline void unpack_block(const F& block, uint8_t* out) {
  constexpr int parts = F::kHalves ? 2 : 1;
  auto* floats = reinterpret_cast<float*>(out + 1024);
  unroll<2>([&](auto g) __attribute__((always_inline)) {
    unroll<8>([&](auto q) __attribute__((always_inline)) {
      store_u8(out + 512 * g + 64 * q, block.template code<g, q>());
    });
    unroll<parts>([&](auto h) __attribute__((always_inline)) {
      store(floats + 16 * (parts * g + h), block.template scale<g, h>());
      if constexpr (F::kAffine) store(floats + 32 * parts + 16 * (parts * g + h), block.template offset<g, h>());
    });
  });
}

// Calls fn(std::integral_constant<Layout, l>) for a quantized layout.
template <class Fn>
inline void with_quantized(Layout layout, Fn&& fn) {
  switch (layout) {
#define TONNAGE_CASE(name) \
  case Layout::name: fn(std::integral_constant<Layout, Layout::name>{}); break;
    TONNAGE_CASE(Q4_0) TONNAGE_CASE(Q4_1) TONNAGE_CASE(Q5_0) TONNAGE_CASE(Q5_1) TONNAGE_CASE(Q8_0)
    TONNAGE_CASE(Q2_K) TONNAGE_CASE(Q3_K) TONNAGE_CASE(Q4_K) TONNAGE_CASE(Q5_K) TONNAGE_CASE(Q6_K)
    TONNAGE_CASE(IQ4_NL) TONNAGE_CASE(IQ4_XS) TONNAGE_CASE(MXFP4)
#undef TONNAGE_CASE
    default: break;
  }
}

}  // namespace tonnage::TONNAGE_ISA
