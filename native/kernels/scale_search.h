// Scales of small groups of weights, by search and least squares, with or without calibration.
//
// Sixteen rows side by side: x points at [n columns][16 rows]. For codes q of values x a scale s has the
// squared error sum(x^2) - gain with gain = 2 s sum(xq) - s^2 sum(qq), so the largest gain wins; the best
// scale for given codes is sum(xq) / sum(qq). Candidates clip or widen the range of the codes. With importance
// every term of a sum counts as much as its column.
#pragma once

#include "kernels/lanes.h"

namespace tonnage::TONNAGE_ISA {

// Candidate i of `count`, evenly from first to last.
struct Grid {
  float first, last;
  int count;
  float at(int i) const { return first + (last - first) * static_cast<float>(i) / static_cast<float>(count - 1); }
  // The same with so many times the steps.
  Grid finer(int times) const { return {first, last, (count - 1) * times + 1}; }
};

struct Codes {
  float lo, hi;
  Grid grid;  // added to the magnitude of lo, or to the number of steps of an affine range
};

// How much the squared error of each value counts. All alike:
struct Even {
  static constexpr int kFiner = 1;   // times as many candidates
  static constexpr int kRounds = 2;  // of choosing between scales and refitting what they share
  Even from(int) const { return {}; }
  // a of column i, times its weight.
  F32 times(int, F32 a) const { return a; }
  F32 total(int n) const { return set(static_cast<float>(n)); }
  F32 per_total(int n) const { return set(1.0f / static_cast<float>(n)); }
};

// By column, as calibration has it: at points at one positive number per column. Made once and for all, so it is
// searched longer.
struct Weighted {
  static constexpr int kFiner = 3;
  static constexpr int kRounds = 4;
  const float* at;
  Weighted from(int column) const { return {at + column}; }
  F32 times(int i, F32 a) const { return mul(set(at[i]), a); }
  F32 total(int n) const {
    F32 sum = zero_f();
    for (int i = 0; i < n; ++i) sum = add(sum, set(at[i]));
    return sum;
  }
  F32 per_total(int n) const { return inverse(total(n)); }
};

// weighted: the code times the value's weight.
struct Moments {
  F32 q = zero_f(), qq = zero_f(), xq = zero_f();
  void add_code(F32 x, F32 code, F32 weighted) {
    q = add(q, weighted);
    qq = fma(code, weighted, qq);
    xq = fma(x, weighted, xq);
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
template <int n, class W> inline Moments symmetric_moments(const float* x, W weights, F32 inverse_scale, const Codes& codes) {
  const F32 lo = set(codes.lo), hi = set(codes.hi);
  Moments m;
  for (int i = 0; i < n; ++i) {
    const F32 v = load(x + 16 * i);
    const F32 code = round_within(mul(v, inverse_scale), lo, hi);
    m.add_code(v, code, weights.times(i, code));
  }
  return m;
}

inline F32 gain_of(F32 scale, const Moments& m) {
  return mul(scale, sub(add(m.xq, m.xq), mul(scale, m.qq)));
}

template <int n, class W> inline F32 search_symmetric(const float* x, W weights, const Codes& codes) {
  const F32 per_extreme = inverse(extreme<n>(x));
  const Grid grid = codes.grid.finer(W::kFiner);
  F32 best = zero_f(), scale = zero_f();
  for (int i = 0; i < grid.count; ++i) {
    const Moments m = symmetric_moments<n>(x, weights, mul(set(codes.lo - grid.at(i)), per_extreme), codes);
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
template <int n, class W>
inline Moments affine_moments(const float* x, W weights, F32 low, F32 start, F32 inverse_scale, float hi) {
  Moments m;
  for (int i = 0; i < n; ++i) {
    const F32 v = sub(load(x + 16 * i), low);
    const F32 code = round_within(mul(sub(v, start), inverse_scale), zero_f(), set(hi));
    m.add_code(v, code, weights.times(i, code));
  }
  return m;
}

// Least squares of values with sum `sum`, of weights with sum `count`, against their codes; an offset above
// `ceiling` becomes it.
inline Affine fit_affine(const Moments& m, F32 sum, F32 count, F32 ceiling) {
  const F32 det = sub(mul(count, m.qq), mul(m.q, m.q));
  const F32 per_det = inverse(det);
  const F32 offset = mul(sub(mul(sum, m.qq), mul(m.xq, m.q)), per_det);
  const F32 scale = mul(sub(mul(count, m.xq), mul(sum, m.q)), per_det);
  const F32 bounded = mul(minus_product(m.xq, ceiling, m.q), inverse(m.qq));
  return {select_less(ceiling, offset, bounded, scale), min(offset, ceiling)};
}

inline F32 gain_of(Affine fit, const Moments& m, F32 sum, F32 count) {
  const F32 linear = add(mul(fit.scale, m.xq), mul(fit.offset, sum));
  const F32 cross = mul(mul(fit.scale, fit.offset), m.q);
  const F32 square = add(mul(mul(fit.scale, fit.scale), m.qq), mul(mul(fit.offset, fit.offset), count));
  return sub(add(linear, linear), add(square, add(cross, cross)));
}

// Offsets stay at or below `ceiling`: 0 for formats whose minimum is subtracted, else anything large.
template <int n, class W> inline Affine search_affine(const float* x, W weights, const Codes& codes, float ceiling) {
  F32 low = set(ceiling), high = load(x), total = zero_f();
  for (int i = 0; i < n; ++i) {
    const F32 v = load(x + 16 * i);
    low = min(low, v);
    high = max(high, v);
  }
  for (int i = 0; i < n; ++i) total = add(total, weights.times(i, sub(load(x + 16 * i), low)));
  const F32 count = weights.total(n);
  const F32 top = sub(set(ceiling), low), range = sub(high, low);
  Affine best = {mul(range, set(1 / codes.hi)), zero_f()};
  F32 most = set(-1.0f);
  const auto consider = [&](const Moments& m) {
    const Affine fit = fit_affine(m, total, count, top);
    const F32 gain = gain_of(fit, m, total, count);
    best = {select_less(most, gain, fit.scale, best.scale), select_less(most, gain, fit.offset, best.offset)};
    most = max(most, gain);
  };
  const Grid grid = codes.grid.finer(W::kFiner);
  for (int i = 0; i < grid.count; ++i) {
    // Clipped alike at both ends.
    const float more = grid.at(i);
    const F32 scale = mul(range, set(1 / (codes.hi + more)));
    consider(affine_moments<n>(x, weights, low, mul(scale, set(more / 2)), inverse(scale), codes.hi));
  }
  consider(affine_moments<n>(x, weights, low, best.offset, inverse(best.scale), codes.hi));
  return {best.scale, add(best.offset, low)};
}

}  // namespace tonnage::TONNAGE_ISA
