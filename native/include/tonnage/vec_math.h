// Functions of sixteen floats, with the same bits on every instruction set: exponential, tanh, activations.
#pragma once

#include "tonnage/vec.h"

namespace tonnage::TONNAGE_ISA {

// e^x for x <= 88; 0 below -87.3; exactly 1 at 0. Relative error below 2e-7 (Cody-Waite reduction,
// Taylor polynomial of degree 6 on |r| <= ln2/2).
inline F32 exp(F32 x) {
  const F32 clamped = max(min(x, set(88.0f)), set(-87.3f));
  const I32 n = round_i32(mul(clamped, set(1.44269504088896341f)));
  const F32 nf = to_f32(n);
  const F32 r = fma(nf, set(-1.42860677e-6f), fma(nf, set(-0.693145751953125f), clamped));
  F32 p = set(1.0f / 720);
  p = fma(p, r, set(1.0f / 120));
  p = fma(p, r, set(1.0f / 24));
  p = fma(p, r, set(1.0f / 6));
  p = fma(p, r, set(0.5f));
  p = fma(p, r, set(1.0f));
  p = fma(p, r, set(1.0f));
  const F32 scale = bits_to_f32(shift_left(add(n, set(int32_t{127})), 23));
  const F32 y = mul(p, scale);
#if defined(TONNAGE_VECTORS_avx512)
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, set(-87.3f), _CMP_LT_OQ), y, zero_f());
#elif defined(TONNAGE_VECTORS_avx2)
  const F32 low = set(-87.3f);
  return {_mm256_andnot_ps(_mm256_cmp_ps(x.lo, low.lo, _CMP_LT_OQ), y.lo),
          _mm256_andnot_ps(_mm256_cmp_ps(x.hi, low.hi, _CMP_LT_OQ), y.hi)};
#else
  return each16<F32>([&](int i) { return x.v[i] < -87.3f ? 0.0f : y.v[i]; });
#endif
}

// tanh(x) = 1 - 2 / (e^2x + 1), saturating.
inline F32 tanh(F32 x) {
  const F32 e = exp(min(add(x, x), set(80.0f)));
  return sub(set(1.0f), div(set(2.0f), add(e, set(1.0f))));
}

inline F32 silu(F32 x) { return div(x, add(set(1.0f), exp(sub(zero_f(), x)))); }

// max(x, 0) squared (So et al. 2021); NaN stays.
inline F32 squared_relu(F32 x) {
  const F32 positive = max(zero_f(), x);
  return mul(positive, positive);
}

// The tanh form of GELU (Hendrycks & Gimpel 2016).
inline F32 gelu_tanh(F32 x) {
  const F32 inner = mul(mul(set(0.7978845608028654f), x), fma(mul(set(0.044715f), x), x, set(1.0f)));
  return mul(mul(set(0.5f), x), add(set(1.0f), tanh(inner)));
}

// The GELU (Hendrycks & Gimpel 2016) is (x + |x| erf(|x| / sqrt 2)) / 2. erf to 1.5e-7: Abramowitz &
// Stegun 7.1.26.
inline F32 gelu(F32 x) {
  const F32 size = max(x, sub(zero_f(), x));
  const F32 y = mul(size, set(0.70710678118654752f));
  const F32 t = div(set(1.0f), fma(y, set(0.3275911f), set(1.0f)));
  F32 p = set(1.061405429f);
  p = fma(p, t, set(-1.453152027f));
  p = fma(p, t, set(1.421413741f));
  p = fma(p, t, set(-0.284496736f));
  p = fma(p, t, set(0.254829592f));
  // Beyond 10 the exponential is 0, and squares could overflow.
  const F32 near = min(y, set(10.0f));
  const F32 beside_one = mul(mul(p, t), exp(sub(zero_f(), mul(near, near))));
  return fma(mul(set(0.5f), size), sub(set(1.0f), beside_one), mul(set(0.5f), x));
}

}  // namespace tonnage::TONNAGE_ISA
