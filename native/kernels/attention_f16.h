// Attention over keys and values in f16: both products in float, one fused multiply-add per element.
#pragma once

#include "kernels/attention_tile.h"

namespace tonnage::TONNAGE_ISA {

// out[i][16 g..] = queries[i] · keys of `groups` times sixteen positions.
template <int n, int groups>
void score_groups(const float* const* q, const uint16_t* keys, int k_dim, float* out) {
  F32 acc[n][groups];
  unroll<n>([&](auto i) __attribute__((always_inline)) {
    unroll<groups>([&](auto g) __attribute__((always_inline)) { acc[i][g] = zero_f(); });
  });
  for (int d = 0; d < k_dim; ++d) {
    F32 k[groups];
    unroll<groups>([&](auto g) __attribute__((always_inline)) { k[g] = load_f16(keys + (g * k_dim + d) * 16); });
    unroll<n>([&](auto i) __attribute__((always_inline)) {
      const F32 x = set(q[i][d]);
      unroll<groups>([&](auto g) __attribute__((always_inline)) { acc[i][g] = fma(k[g], x, acc[i][g]); });
    });
  }
  unroll<n>([&](auto i) __attribute__((always_inline)) {
    unroll<groups>([&](auto g) __attribute__((always_inline)) { store(out + 64 * i + 16 * g, acc[i][g]); });
  });
}

// out[i][columns] = out * rescale[i] + weights[i] · values. Tokens from num_tokens on have weights of 0.
template <int n, int lines>
void pv_block(const float* weights, const float* rescale, const uint16_t* values, int num_tokens, int v_pad,
              float* out) {
  F32 acc[n][lines];
  unroll<n>([&](auto i) __attribute__((always_inline)) {
    unroll<lines>([&](auto g) __attribute__((always_inline)) {
      acc[i][g] = mul(load(out + i * v_pad + 16 * g), set(rescale[i]));
    });
  });
  for (int t = 0; t < num_tokens; ++t) {
    F32 v[lines];
    unroll<lines>([&](auto g) __attribute__((always_inline)) { v[g] = load_f16(values + t * v_pad + 16 * g); });
    unroll<n>([&](auto i) __attribute__((always_inline)) {
      const F32 w = set(weights[64 * i + t]);
      unroll<lines>([&](auto g) __attribute__((always_inline)) { acc[i][g] = fma(v[g], w, acc[i][g]); });
    });
  }
  unroll<n>([&](auto i) __attribute__((always_inline)) {
    unroll<lines>([&](auto g) __attribute__((always_inline)) { store(out + i * v_pad + 16 * g, acc[i][g]); });
  });
}

struct HalfPages {
  const KvLayer& kv;

  HalfPages(const KvLayer& layer, uint8_t*) : kv(layer) {}
  void begin(const Tile&) const {}
  int64_t value_bytes(int num_tokens) const { return int64_t{2} * num_tokens * kv.v_pad; }

  // Positions from num_tokens on are left as they are; the mask hides them.
  template <int n>
  void score(Tile& tile, int i, const uint8_t* page_keys, int num_tokens) const {
    const auto* keys = reinterpret_cast<const uint16_t*>(page_keys);
    float* out = tile.weights + 64 * i;
    if (num_tokens > 32) return score_groups<n, 4>(tile.queries + i, keys, kv.k_dim, out);
    if (num_tokens > 16) return score_groups<n, 2>(tile.queries + i, keys, kv.k_dim, out);
    score_groups<n, 1>(tile.queries + i, keys, kv.k_dim, out);
  }

  void encode_weights(Tile&, const uint8_t*, int) const {}
  static void finish(float*, const KvLayer&) {}

  template <int n>
  void pv(Tile& tile, int i, const uint8_t* page_values, int num_tokens) const {
    const auto* values = reinterpret_cast<const uint16_t*>(page_values);
    const float* weights = tile.weights + 64 * i;
    float* out = tile.out + i * kv.v_pad;
    int d = 0;
    for (; d + 64 <= kv.v_pad; d += 64)
      pv_block<n, 4>(weights, tile.rescale + i, values + d, num_tokens, kv.v_pad, out + d);
    for (; d < kv.v_pad; d += 16)
      pv_block<n, 1>(weights, tile.rescale + i, values + d, num_tokens, kv.v_pad, out + d);
  }
};

}  // namespace tonnage::TONNAGE_ISA
