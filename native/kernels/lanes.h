// What choosing between candidates needs beyond arithmetic; a lane is a row of weights throughout.
#pragma once

#include "tonnage/vec.h"

namespace tonnage::TONNAGE_ISA {

#if defined(TONNAGE_VECTORS_avx512)

// x where a < b, else y.
inline F32 select_less(F32 a, F32 b, F32 x, F32 y) {
  return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), y, x);
}
// Lane r holds bytes 4r to 4r + 3.
inline I32 words(U8 a) { return a; }

#elif defined(TONNAGE_VECTORS_avx2)

inline F32 select_less(F32 a, F32 b, F32 x, F32 y) {
  return {_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_LT_OQ))};
}
inline I32 words(U8 a) { return {a.lo, a.hi}; }

#else

inline F32 select_less(F32 a, F32 b, F32 x, F32 y) {
  return each16<F32>([&](int i) { return a.v[i] < b.v[i] ? x.v[i] : y.v[i]; });
}
inline I32 words(U8 a) {
  I32 out;
  std::memcpy(out.v, a.v, sizeof out.v);
  return out;
}

#endif

// The whole number nearest to a in lo..hi; lo where a is not a number.
inline F32 round_within(F32 a, F32 lo, F32 hi) { return to_f32(round_i32(min(max(a, lo), hi))); }

// 1 / a, and 0 where a is next to nothing.
inline F32 inverse(F32 a) { return select_less(set(1e-30f), abs(a), div(set(1.0f), a), zero_f()); }

// As a float16 field holds it.
inline F32 as_half(F32 a) {
  uint16_t halves[16];
  store_f16(halves, a);
  return load_f16(halves);
}

// a - b * c, rounded once.
inline F32 minus_product(F32 a, F32 b, F32 c) { return fma(sub(zero_f(), b), c, a); }

}  // namespace tonnage::TONNAGE_ISA
