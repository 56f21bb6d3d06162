// The queries that share one pass over the keys of a head, and their online softmax.
#pragma once

#include "kernels/formats.h"
#include "kernels/table.h"
#include "tonnage/vec_math.h"

namespace tonnage::TONNAGE_ISA {

constexpr int kMicro = kManyRegisters ? 6 : 2;  // query vectors per pass, four accumulators each

// All state lies in the worker's scratch.
struct Tile {
  const float* queries[kQueryTile];
  int position[kQueryTile];
  int count;
  float* out;      // [count][v_pad]
  float* weights;  // [count][64]
  float* peak;     // [kQueryTile] running maximum
  float* total;    // [kQueryTile] running sum
  float* next;     // [kQueryTile] maximum of this block
  float* rescale;  // [kQueryTile] what the running sums are multiplied with
};

inline Tile make_tile(uint8_t* scratch, int num_queries, int v_pad) {
  auto* p = reinterpret_cast<float*>(scratch);
  Tile tile;
  tile.count = 0;
  tile.peak = p;
  tile.total = p + kQueryTile;
  tile.next = p + 2 * kQueryTile;
  tile.rescale = p + 3 * kQueryTile;
  tile.weights = p + 4 * kQueryTile;
  tile.out = tile.weights + kQueryTile * kPageTokens;
  for (int i = 0; i < kQueryTile; ++i) {
    tile.peak[i] = tile.next[i] = -INFINITY;
    tile.total[i] = tile.rescale[i] = 0;
  }
  std::memset(tile.out, 0, sizeof(float) * num_queries * v_pad);
  return tile;
}

// Calls fn(width, i) for the queries [i, i + width) of a tile: as few passes as registers allow, of nearly equal
// width, a constant.
template <class Fn>
void by_micro(int count, Fn&& fn) {
  const int passes = (count + kMicro - 1) / kMicro;
  for (int p = 0; p < passes; ++p) {
    const int i = count * p / passes;
    const int width = count * (p + 1) / passes - i;
    unroll<kMicro>([&](auto n) __attribute__((always_inline)) {
      if (width == n + 1) fn(std::integral_constant<int, n + 1>{}, i);
    });
  }
}

inline F32 capped(F32 x, float cap) { return cap > 0 ? mul(set(cap), tanh(mul(x, set(1.0f / cap)))) : x; }

// Turns raw scores of the positions [block, block + 64) into masked, capped ones and notes the maximum.
inline void mask_scores(Tile& tile, int i, int block, int window, float cap) {
  float* s = tile.weights + 64 * i;
  const int last = tile.position[i] - block + 1;  // first position not seen
  const int first = window > 0 ? tile.position[i] - window + 1 - block : 0;
  const bool all_seen = last >= kPageTokens && first <= 0;
  F32 best = set(-INFINITY);
  if (all_seen && cap <= 0) {
    for (int g = 0; g < 4; ++g) best = max(best, load(s + 16 * g));
    tile.next[i] = reduce_max(best);
    return;
  }
  for (int g = 0; g < 4; ++g) {
    F32 x = keep_first(capped(load(s + 16 * g), cap), last - 16 * g, set(-INFINITY));
    if (first > 0) x = keep_first(set(-INFINITY), first - 16 * g, x);
    best = max(best, x);
    store(s + 16 * g, x);
  }
  tile.next[i] = reduce_max(best);
}

// The online softmax update: new maxima and sums, weights in place of scores.
inline void update_softmax(Tile& tile) {
  for (int i = 0; i < tile.count; i += 16) {
    const F32 old = load(tile.peak + i);
    const F32 peak = max(old, load(tile.next + i));
    store(tile.peak + i, peak);
    // Where nothing was seen yet the maximum is -inf; any finite one gives weights of 0.
    const F32 finite = max(peak, set(-3e38f));
    store(tile.next + i, finite);
    store(tile.rescale + i, exp(sub(old, finite)));
  }
  for (int i = 0; i < tile.count; ++i) {
    float* s = tile.weights + 64 * i;
    const F32 peak = set(tile.next[i]);
    F32 sum = zero_f();
    for (int g = 0; g < 4; ++g) {
      const F32 w = exp(sub(load(s + 16 * g), peak));
      sum = add(sum, w);
      store(s + 16 * g, w);
    }
    tile.total[i] = tile.total[i] * tile.rescale[i] + reduce_add(sum);
  }
}

// Inline, because calls of functions that only prefetch are dropped.
[[gnu::always_inline]] inline void ask_for(const uint8_t* data, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) __builtin_prefetch(data + i);
}

}  // namespace tonnage::TONNAGE_ISA
