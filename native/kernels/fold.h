// Sixteen reductions across lanes at once, which share their shuffles.
#pragma once

#include "tonnage/vec.h"

namespace tonnage::TONNAGE_ISA {

#if defined(TONNAGE_VECTORS_avx512)

// Lane i of the result is the sixteen lanes of v[i], joined by `join`, which must not round, as the order differs
// from that of other instruction sets. Each level joins halves of two vectors; the lanes end bit-reversed.
template <class Join>
inline __m512 fold16(const __m512* v, Join join) {
  __m512 t[8], u[4];
  for (int i = 0; i < 8; ++i) t[i] = join(_mm512_unpacklo_ps(v[i], v[i + 8]), _mm512_unpackhi_ps(v[i], v[i + 8]));
  for (int i = 0; i < 4; ++i) {
    const __m512d a = _mm512_castps_pd(t[i]), b = _mm512_castps_pd(t[i + 4]);
    u[i] = join(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)), _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
  }
  for (int i = 0; i < 2; ++i)
    t[i] = join(_mm512_shuffle_f32x4(u[i], u[i + 2], 0x88), _mm512_shuffle_f32x4(u[i], u[i + 2], 0xdd));
  const __m512 all = join(_mm512_shuffle_f32x4(t[0], t[1], 0x88), _mm512_shuffle_f32x4(t[0], t[1], 0xdd));
  return _mm512_permutexvar_ps(_mm512_setr_epi32(0, 8, 4, 12, 2, 10, 6, 14, 1, 9, 5, 13, 3, 11, 7, 15), all);
}

// out[i] = the largest lane of v[i].
inline void fold16_max(const F32* v, float* out) {
  store(out, fold16(v, [](F32 a, F32 b) { return max(a, b); }));
}

// out[i] = the sum of the lanes of v[i].
inline void fold16_add(const I32* v, int32_t* out) {
  F32 bits[16];
  for (int i = 0; i < 16; ++i) bits[i] = bits_to_f32(v[i]);
  const F32 sums = fold16(bits, [](F32 a, F32 b) {
    return bits_to_f32(add(_mm512_castps_si512(a), _mm512_castps_si512(b)));
  });
  _mm512_storeu_si512(out, _mm512_castps_si512(sums));
}

#else

inline void fold16_max(const F32* v, float* out) {
  for (int i = 0; i < 16; ++i) out[i] = reduce_max(v[i]);
}

inline void fold16_add(const I32* v, int32_t* out) {
  for (int i = 0; i < 16; i += 2) reduce_add_both(v[i], v[i + 1], out + i, out + i + 1);
}

#endif

}  // namespace tonnage::TONNAGE_ISA
