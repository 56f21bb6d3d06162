// Rotating a head by a Hadamard matrix, which spreads what lies in a few elements over all of them.
//
// One scale for a whole head is set by its largest element; keys have elements that are many times the
// others (Ashkboos et al. 2024, QuaRot). Rotated alike, queries and keys have the products they had before.
#pragma once

#include "tonnage/vec.h"

namespace tonnage::TONNAGE_ISA {

// Row i: +1 or -1 by the parity of the bits that i and the column share (Sylvester).
struct Signs16 {
  float v[16][16];
  constexpr Signs16() : v{} {
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j) v[i][j] = __builtin_popcount(i & j) % 2 ? -1.0f : 1.0f;
  }
};
inline constexpr Signs16 kSigns16;

// The largest power of two that divides n: so many elements are mixed with each other.
constexpr int hadamard_size(int n) { return n & -n; }

// x = factor * H x for each run of hadamard_size(n) elements; n is a multiple of 16. H H = hadamard_size(n).
inline void hadamard(float* x, int n, float factor) {
  for (int i = 0; i < n; i += 16) {
    F32 sum = zero_f();
    for (int j = 0; j < 16; ++j) sum = fma(load(kSigns16.v[j]), set(x[i + j]), sum);
    store(x + i, mul(sum, set(factor)));
  }
  for (int half = 16; half < hadamard_size(n); half *= 2) {
    for (int i = 0; i < n; i += 16) {
      if (i & half) continue;
      const F32 a = load(x + i);
      const F32 b = load(x + i + half);
      store(x + i, add(a, b));
      store(x + i + half, sub(a, b));
    }
  }
}

// Two powers of two whose product is 1 / hadamard_size(n), so that rotating there and back is exact in scale:
// the first for what is stored.
constexpr float stored_factor(int n) { return 1.0f / (1 << (__builtin_ctz(n) / 2)); }
constexpr float other_factor(int n) { return stored_factor(n) / (__builtin_ctz(n) % 2 ? 2.0f : 1.0f); }

}  // namespace tonnage::TONNAGE_ISA
