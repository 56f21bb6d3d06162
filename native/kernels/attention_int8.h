// Attention over keys and values in int8: both products in integers, exact whatever their order.
//
// The float side of a product becomes codes of 14 bits in two bytes, 128 * high + low with |high| < 64 and
// |low| <= 64, so that no step of a byte product saturates; keys and values lie as code + 128. Their error is
// 2^-14 of the largest query element or weight, a hundredth of what int8 keys and values lose themselves.
#pragma once

#include "kernels/attention_tile.h"
#include "kernels/hadamard.h"

namespace tonnage::TONNAGE_ISA {

constexpr float kSplitMax = 63 * 128;

// Vectors of codes: the high bytes of one, its low bytes, the next vector.
struct SplitCodes {
  int8_t* codes;  // [count][2][size]
  float* scale;   // [count]: value = scale * code
  int32_t* zero;  // [count]: -128 * sum of the codes
  int size;

  const int8_t* of(int i) const { return codes + int64_t{2} * size * i; }
  int8_t* of(int i) { return codes + int64_t{2} * size * i; }

  // Puts x[size] at place i.
  void put(int i, const float* x) {
    F32 best = zero_f();
    for (int d = 0; d < size; d += 16) best = max(best, abs(load(x + d)));
    const float largest = reduce_max(best);
    // Far below that the quotient would overflow; such values are nothing beside any others.
    const F32 inverse = set(largest > 1e-30f ? kSplitMax / largest : 0.0f);
    I32 sum = set(int32_t{0});
    for (int d = 0; d < size; d += 16) {
      // The clamp only meets values that are not finite.
      const I32 code = round_i32(max(min(mul(load(x + d), inverse), set(kSplitMax)), set(-kSplitMax)));
      const I32 high = round_i32(mul(to_f32(code), set(1.0f / 128)));
      sum = add(sum, code);
      store_s8(of(i) + d, high);
      store_s8(of(i) + size + d, round_i32(fma(to_f32(high), set(-128.0f), to_f32(code))));
    }
    int32_t total, unused;
    reduce_add_both(sum, sum, &total, &unused);
    scale[i] = largest / kSplitMax;
    zero[i] = -128 * total;
  }
};

// acc[k][l] = codes of vector i + k · line l. line(quad, l): bytes of four codes for each of sixteen results.
// All sums stay below 255 * 63 * 129 * 512 < 2^31.
template <int n, int lines, class Line>
[[gnu::always_inline]] inline void dot_split(const SplitCodes& x, int i, int num_quads, Line&& line, I32 (&acc)[n][lines]) {
  constexpr bool at_once = kManyRegisters && 2 * n * lines <= 8;
  I32 high[n][lines];
  unroll<n>([&](auto k) __attribute__((always_inline)) {
    unroll<lines>([&](auto l) __attribute__((always_inline)) { acc[k][l] = high[k][l] = set(int32_t{0}); });
  });
  const int8_t* codes = x.of(i);
  const int64_t stride = int64_t{2} * x.size;
  for (int sweep = at_once ? 1 : 0; sweep < 2; ++sweep) {
    const int8_t* part = codes + sweep * x.size;
    for (int quad = 0; quad < num_quads; ++quad) {
      U8 u[lines];
      unroll<lines>([&](auto l) __attribute__((always_inline)) { u[l] = line(quad, l); });
      unroll<n>([&](auto k) __attribute__((always_inline)) {
        const I32 s = repeat4(part + k * stride + 4 * quad);
        unroll<lines>([&](auto l) __attribute__((always_inline)) { acc[k][l] = dot4_small(acc[k][l], u[l], s); });
        if constexpr (at_once) {
          const I32 top = repeat4(codes + k * stride + 4 * quad);
          unroll<lines>([&](auto l) __attribute__((always_inline)) { high[k][l] = dot4_small(high[k][l], u[l], top); });
        }
      });
    }
    if (sweep == 0)
      unroll<n>([&](auto k) __attribute__((always_inline)) {
        unroll<lines>([&](auto l) __attribute__((always_inline)) { acc[k][l] = shift_left(acc[k][l], 7); });
      });
  }
  unroll<n>([&](auto k) __attribute__((always_inline)) {
    const I32 zero = set(x.zero[i + k]);
    unroll<lines>([&](auto l) __attribute__((always_inline)) {
      if constexpr (at_once) acc[k][l] = add(acc[k][l], shift_left(high[k][l], 7));
      acc[k][l] = add(acc[k][l], zero);
    });
  });
}

struct Int8Pages {
  const KvLayer& kv;
  SplitCodes queries;
  SplitCodes weights;

  // Takes scratch that products of weights use at other times.
  Int8Pages(const KvLayer& layer, uint8_t* scratch) : kv(layer) {
    constexpr int64_t bytes = kQueryTile * int64_t{2 * (kMaxHeadDim + kPageTokens) + 16};
    static_assert(bytes <= kUnpackBytes + 2 * kPanelOutBytes);
    auto* numbers = reinterpret_cast<float*>(scratch);
    auto* zeros = reinterpret_cast<int32_t*>(scratch) + 2 * kQueryTile;
    auto* codes = reinterpret_cast<int8_t*>(scratch + 16 * kQueryTile);
    weights = {codes, numbers, zeros, kPageTokens};
    queries = {codes + 2 * kPageTokens * kQueryTile, numbers + kQueryTile, zeros + kQueryTile, layer.k_pad};
  }

  void begin(const Tile& tile) {
    alignas(64) float rotated[kMaxHeadDim];
    for (int i = 0; i < tile.count; ++i) {
      std::memcpy(rotated, tile.queries[i], kv.k_dim * sizeof(float));
      for (int d = kv.k_dim; d < kv.k_pad; ++d) rotated[d] = 0;
      hadamard(rotated, kv.k_pad, other_factor(kv.k_pad));
      queries.put(i, rotated);
    }
  }

  int64_t value_bytes(int num_tokens) const { return kKvScaleBytes + int64_t{(num_tokens + 3) / 4 * 4} * kv.v_pad; }

  // Positions from num_tokens on may be left as they are; the mask hides them.
  template <int n>
  void score(Tile& tile, int i, const uint8_t* keys, int num_tokens) const {
    float* out = tile.weights + 64 * i;
    if (num_tokens > 32) return score_lines<n, 4>(i, keys, out);
    if (num_tokens > 16) return score_lines<n, 2>(i, keys, out);
    score_lines<n, 1>(i, keys, out);
  }

  // Makes codes of the weights with the values' scales in them; those of positions not yet written are 0.
  void encode_weights(Tile& tile, const uint8_t* values, int num_tokens) {
    F32 scales[4];
    for (int g = 0; g < 4; ++g) {
      const F32 stored = load_f16(reinterpret_cast<const uint16_t*>(values) + 16 * g);
      scales[g] = keep_first(stored, num_tokens - 16 * g, zero_f());
    }
    for (int i = 0; i < tile.count; ++i) {
      float* w = tile.weights + 64 * i;
      for (int g = 0; g < 4; ++g) store(w + 16 * g, mul(load(w + 16 * g), scales[g]));
      weights.put(i, w);
    }
  }

  // Rotates one head's output back: values are stored rotated.
  static void finish(float* out, const KvLayer& layer) { hadamard(out, layer.v_pad, other_factor(layer.v_pad)); }

  template <int n>
  void pv(Tile& tile, int i, const uint8_t* values, int num_tokens) const {
    const uint8_t* codes = values + kKvScaleBytes;
    const int quads = (num_tokens + 3) / 4;
    int d = 0;
    for (; d + 64 <= kv.v_pad; d += 64) pv_lines<n, 4>(tile, i, codes + 4 * d, quads, d);
    for (; d < kv.v_pad; d += 16) pv_lines<n, 1>(tile, i, codes + 4 * d, quads, d);
  }

 private:
  template <int n, int lines>
  void score_lines(int i, const uint8_t* keys, float* out) const {
    const uint8_t* codes = keys + kKvScaleBytes;
    I32 acc[n][lines];
    dot_split<n, lines>(queries, i, kv.k_pad / 4, [&](int quad, int l) __attribute__((always_inline)) {
      return load_u8(codes + l * 16 * kv.k_pad + 64 * quad);
    }, acc);
    unroll<lines>([&](auto l) __attribute__((always_inline)) {
      const F32 scale = load_f16(reinterpret_cast<const uint16_t*>(keys) + 16 * l);
      unroll<n>([&](auto k) __attribute__((always_inline)) {
        store(out + 64 * k + 16 * l, mul(mul(to_f32(acc[k][l]), scale), set(queries.scale[i + k])));
      });
    });
  }

  template <int n, int lines>
  void pv_lines(Tile& tile, int i, const uint8_t* codes, int num_quads, int d) const {
    I32 acc[n][lines];
    dot_split<n, lines>(weights, i, num_quads, [&](int quad, int l) __attribute__((always_inline)) {
      return load_u8(codes + quad * 4 * kv.v_pad + 64 * l);
    }, acc);
    unroll<n>([&](auto k) __attribute__((always_inline)) {
      float* out = tile.out + (i + k) * kv.v_pad + d;
      const F32 scale = set(weights.scale[i + k]);
      const F32 rescale = set(tile.rescale[i + k]);
      unroll<lines>([&](auto l) __attribute__((always_inline)) {
        store(out + 16 * l, fma(to_f32(acc[k][l]), scale, mul(load(out + 16 * l), rescale)));
      });
    });
  }
};

}  // namespace tonnage::TONNAGE_ISA
