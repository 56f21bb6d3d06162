// The nearest entries of the non-linear four-bit table (IQ4_NL, IQ4_XS).
#pragma once

#include "kernels/scale_search.h"

namespace tonnage::TONNAGE_ISA {

inline constexpr float kIq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

// The table's entry next to y, the lower one at the middle.
inline F32 iq4_value(F32 y) {
  F32 value = set(kIq4[0]);
  for (int i = 1; i < 16; ++i) value = select_less(set((kIq4[i - 1] + kIq4[i]) / 2), y, set(kIq4[i]), value);
  return value;
}

// Its index.
inline F32 iq4_index(F32 y) {
  F32 index = zero_f();
  for (int i = 1; i < 16; ++i)
    index = select_less(set((kIq4[i - 1] + kIq4[i]) / 2), y, set(static_cast<float>(i)), index);
  return index;
}

template <int n, class W> inline Moments iq4_moments(const float* x, W weights, F32 inverse_scale) {
  Moments m;
  for (int i = 0; i < n; ++i) {
    const F32 v = load(x + 16 * i);
    const F32 code = iq4_value(mul(v, inverse_scale));
    m.add_code(v, code, weights.times(i, code));
  }
  return m;
}

// The largest magnitude falls on a value between the grid's ends, of either sign; then refitted once.
template <class W> inline F32 search_iq4(const float* x, W weights, const Grid& coarse) {
  const Grid grid = coarse.finer(W::kFiner);
  const F32 per_extreme = inverse(extreme<32>(x));
  F32 best = zero_f(), scale = zero_f();
  const auto consider = [&](F32 inverse_scale) {
    const Moments m = iq4_moments<32>(x, weights, inverse_scale);
    const F32 fitted = mul(m.xq, inverse(m.qq));
    const F32 gain = mul(fitted, m.xq);
    scale = select_less(best, gain, fitted, scale);
    best = max(best, gain);
  };
  for (int i = 0; i < grid.count; ++i) {
    consider(mul(set(-grid.at(i)), per_extreme));
    consider(mul(set(grid.at(i)), per_extreme));
  }
  consider(inverse(scale));
  return scale;
}

}  // namespace tonnage::TONNAGE_ISA
