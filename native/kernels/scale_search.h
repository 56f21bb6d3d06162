// Scales of small groups of weights, by search and least squares without calibration.
//
// Sixteen rows side by side: x points at [n columns][16 rows]. For codes q of values x a scale s has the
// squared error sum(x^2) - gain with gain = 2 s sum(xq) - s^2 sum(qq), so the largest gain wins; the best
// scale for given codes is sum(xq) / sum(qq). Candidates clip or widen the range of the codes.
#pragma once

#include "kernels/lanes.h"

namespace tonnage::TONNAGE_ISA {

// Candidate i of `count`, evenly from first to last.
struct Grid {
  float first, last;
  int count;
  float at(int i) const { return first + (last - first) * static_cast<float>(i) / static_cast<float>(count - 1); }
};

struct Codes {
  float lo, hi;
  Grid grid;  // added to the magnitude of lo, or to the number of steps of an affine range
};

struct Moments {
  F32 q = zero_f(), qq = zero_f(), xq = zero_f();
  void add_code(F32 x, F32 code) {
    q = add(q, code);
    qq = fma(code, code, qq);
    xq = fma(x, code, xq);
  }
};

// Of each row the value of the largest magnitude, with its sign.
template <int n> inline F32 extreme(const float* x) {
  F32 value = zero_f(), largest = zero_f();
  for (int i = 0; i < n; ++i) {
    const F32 v = load(x + 16 * i);
    value = select_less(largest, abs(v), v, value);
    largest = max(largest, abs(v));
  }
  return value;
}

// Codes round(x / scale) within lo..hi.
template <int n> inline Moments symmetric_moments(const float* x, F32 inverse_scale, const Codes& codes) {
  const F32 lo = set(codes.lo), hi = set(codes.hi);
  Moments m;
  for (int i = 0; i < n; ++i) {
    const F32 v = load(x + 16 * i);
    m.add_code(v, round_within(mul(v, inverse_scale), lo, hi));
  }
  return m;
}

inline F32 gain_of(F32 scale, const Moments& m) {
  return mul(scale, sub(add(m.xq, m.xq), mul(scale, m.qq)));
}

template <int n> inline F32 search_symmetric(const float* x, const Codes& codes) {
  const F32 per_extreme = inverse(extreme<n>(x));
  F32 best = zero_f(), scale = zero_f();
  for (int i = 0; i < codes.grid.count; ++i) {
    const Moments m = symmetric_moments<n>(x, mul(set(codes.lo - codes.grid.at(i)), per_extreme), codes);
    const F32 fitted = mul(m.xq, inverse(m.qq));
    const F32 gain = mul(fitted, m.xq);
    scale = select_less(best, gain, fitted, scale);
    best = max(best, gain);
  }
  return scale;
}

// x = scale * q + offset with q in 0..hi.
struct Affine {
  F32 scale, offset;
};

// Codes round((x - low) / scale) within 0..hi, and moments of x - low.
template <int n> inline Moments affine_moments(const float* x, F32 low, F32 start, F32 inverse_scale, float hi) {
  Moments m;
  for (int i = 0; i < n; ++i) {
    const F32 v = sub(load(x + 16 * i), low);
    m.add_code(v, round_within(mul(sub(v, start), inverse_scale), zero_f(), set(hi)));
  }
  return m;
}

// Least squares of values with sum `sum` against their codes; an offset above `ceiling` becomes it.
inline Affine fit_affine(const Moments& m, F32 sum, int n, F32 ceiling) {
  const F32 count = set(static_cast<float>(n));
  const F32 det = sub(mul(count, m.qq), mul(m.q, m.q));
  const F32 per_det = inverse(det);
  const F32 offset = mul(sub(mul(sum, m.qq), mul(m.xq, m.q)), per_det);
  const F32 scale = mul(sub(mul(count, m.xq), mul(sum, m.q)), per_det);
  const F32 bounded = mul(minus_product(m.xq, ceiling, m.q), inverse(m.qq));
  return {select_less(ceiling, offset, bounded, scale), min(offset, ceiling)};
}

inline F32 gain_of(Affine fit, const Moments& m, F32 sum, int n) {
  const F32 count = set(static_cast<float>(n));
  const F32 linear = add(mul(fit.scale, m.xq), mul(fit.offset, sum));
  const F32 cross = mul(mul(fit.scale, fit.offset), m.q);
  const F32 square = add(mul(mul(fit.scale, fit.scale), m.qq), mul(mul(fit.offset, fit.offset), count));
  return sub(add(linear, linear), add(square, add(cross, cross)));
}

// Offsets stay at or below `ceiling`: 0 for formats whose minimum is subtracted, else anything large.
template <int n> inline Affine search_affine(const float* x, const Codes& codes, float ceiling) {
  F32 low = set(ceiling), high = load(x), total = zero_f();
  for (int i = 0; i < n; ++i) {
    const F32 v = load(x + 16 * i);
    low = min(low, v);
    high = max(high, v);
  }
  for (int i = 0; i < n; ++i) total = add(total, sub(load(x + 16 * i), low));
  const F32 top = sub(set(ceiling), low), range = sub(high, low);
  Affine best = {mul(range, set(1 / codes.hi)), zero_f()};
  F32 most = set(-1.0f);
  const auto consider = [&](const Moments& m) {
    const Affine fit = fit_affine(m, total, n, top);
    const F32 gain = gain_of(fit, m, total, n);
    best = {select_less(most, gain, fit.scale, best.scale), select_less(most, gain, fit.offset, best.offset)};
    most = max(most, gain);
  };
  for (int i = 0; i < codes.grid.count; ++i) {
    // Clipped alike at both ends.
    const float more = codes.grid.at(i);
    const F32 scale = mul(range, set(1 / (codes.hi + more)));
    consider(affine_moments<n>(x, low, mul(scale, set(more / 2)), inverse(scale), codes.hi));
  }
  consider(affine_moments<n>(x, low, best.offset, inverse(best.scale), codes.hi));
  return {best.scale, add(best.offset, low)};
}

}  // namespace tonnage::TONNAGE_ISA
