// Vectors of sixteen 32-bit lanes and of 64 bytes, with one meaning on every instruction set.
//
// Each operation rounds alike on all of them (a fused multiply-add is fused, sums fold 16-8-4-2-1), so a
// kernel written once gives the same bits whichever build of it runs.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(TONNAGE_VECTORS_avx512) || defined(TONNAGE_VECTORS_avx2)
#include <immintrin.h>
#endif

#include "tonnage/half.h"

namespace tonnage::TONNAGE_ISA {

#if defined(TONNAGE_VECTORS_avx512)

constexpr bool kManyRegisters = true;
using F32 = __m512;
using I32 = __m512i;
using U8 = __m512i;

inline F32 zero_f() { return _mm512_setzero_ps(); }
inline F32 set(float x) { return _mm512_set1_ps(x); }
inline F32 load(const float* p) { return _mm512_loadu_ps(p); }
inline void store(float* p, F32 a) { _mm512_storeu_ps(p, a); }
inline F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
inline F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
inline F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
inline F32 div(F32 a, F32 b) { return _mm512_div_ps(a, b); }
inline F32 fma(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
inline F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
inline F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
inline F32 abs(F32 a) { return _mm512_abs_ps(a); }
inline F32 load_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline void store_f16(uint16_t* p, F32 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
inline F32 load_bf16(const uint16_t* p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
inline F32 to_f32(I32 a) { return _mm512_cvtepi32_ps(a); }
inline I32 round_i32(F32 a) { return _mm512_cvtps_epi32(a); }
inline I32 set(int32_t x) { return _mm512_set1_epi32(x); }
inline I32 add(I32 a, I32 b) { return _mm512_add_epi32(a, b); }
inline F32 bits_to_f32(I32 a) { return _mm512_castsi512_ps(a); }
inline I32 shift_left(I32 a, int n) { return _mm512_slli_epi32(a, n); }
inline I32 widen_u8(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline I32 widen_s8(const uint8_t* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline I32 bit_and(I32 a, int32_t mask) { return _mm512_and_si512(a, _mm512_set1_epi32(mask)); }
inline I32 bit_or(I32 a, I32 b) { return _mm512_or_si512(a, b); }
inline I32 shift_right(I32 a, int n) { return _mm512_srli_epi32(a, n); }
inline void store_s8(int8_t* p, I32 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}
inline void reduce_add_both(I32 a, I32 b, int32_t* sum_a, int32_t* sum_b) {
  const __m256i x = _mm256_add_epi32(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
  const __m256i y = _mm256_add_epi32(_mm512_castsi512_si256(b), _mm512_extracti64x4_epi64(b, 1));
  __m256i z = _mm256_hadd_epi32(x, y);
  z = _mm256_hadd_epi32(z, z);
  const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(z), _mm256_extracti128_si256(z, 1));
  *sum_a = _mm_cvtsi128_si32(sums);
  *sum_b = _mm_extract_epi32(sums, 1);
}
inline float reduce_add(F32 a) {
  const __m256 x = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  const __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 z = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(z, _mm_shuffle_ps(z, z, 1)));
}
inline float reduce_max(F32 a) { return _mm512_reduce_max_ps(a); }
// The first `count` lanes of a, the others `other`.
inline F32 keep_first(F32 a, int count, F32 other) {
  const auto mask = static_cast<__mmask16>(count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1);
  return _mm512_mask_blend_ps(mask, other, a);
}

inline U8 load_u8(const uint8_t* p) { return _mm512_loadu_si512(p); }
inline void store_u8(uint8_t* p, U8 a) { _mm512_storeu_si512(p, a); }
inline U8 bytes_and(U8 a, uint8_t mask) { return _mm512_and_si512(a, _mm512_set1_epi8(static_cast<char>(mask))); }
inline U8 bytes_or(U8 a, U8 b) { return _mm512_or_si512(a, b); }
template <int n> inline U8 bytes_left(U8 a) { return n ? _mm512_slli_epi16(a, n) : a; }
template <int n> inline U8 bytes_right(U8 a) { return n ? _mm512_srli_epi16(a, n) : a; }
struct Table16 { __m512i v; };
inline Table16 table16(const uint8_t* entries) {
  return {_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries)))};
}
inline U8 lookup(Table16 t, U8 index) { return _mm512_shuffle_epi8(t.v, index); }
// The four bytes at p in every lane.
inline I32 repeat4(const int8_t* p) {
  int32_t word;
  std::memcpy(&word, p, 4);
  return _mm512_set1_epi32(word);
}
// acc + the sum of four products of unsigned bytes and signed bytes, per lane, exact.
inline I32 dot4(I32 acc, U8 u, I32 s) { return _mm512_dpbusd_epi32(acc, u, s); }
// The same for signed bytes of -64 to 64, which is quicker where products saturate at 16 bits.
inline I32 dot4_small(I32 acc, U8 u, I32 s) { return dot4(acc, u, s); }

#elif defined(TONNAGE_VECTORS_avx2)

constexpr bool kManyRegisters = false;
struct F32 { __m256 lo, hi; };
struct I32 { __m256i lo, hi; };
struct U8 { __m256i lo, hi; };

inline F32 zero_f() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F32 set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F32 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void store(float* p, F32 a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}
inline F32 add(F32 a, F32 b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline F32 sub(F32 a, F32 b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline F32 mul(F32 a, F32 b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline F32 div(F32 a, F32 b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline F32 fma(F32 a, F32 b, F32 c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
inline F32 max(F32 a, F32 b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline F32 min(F32 a, F32 b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline F32 abs(F32 a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.lo), _mm256_andnot_ps(sign, a.hi)};
}
inline F32 load_f16(const uint16_t* p) {
  const auto* v = reinterpret_cast<const __m128i*>(p);
  return {_mm256_cvtph_ps(_mm_loadu_si128(v)), _mm256_cvtph_ps(_mm_loadu_si128(v + 1))};
}
inline void store_f16(uint16_t* p, F32 a) {
  auto* v = reinterpret_cast<__m128i*>(p);
  _mm_storeu_si128(v, _mm256_cvtps_ph(a.lo, _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(v + 1, _mm256_cvtps_ph(a.hi, _MM_FROUND_TO_NEAREST_INT));
}
inline F32 load_bf16(const uint16_t* p) {
  const auto* v = reinterpret_cast<const __m128i*>(p);
  const __m256i lo = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(v)), 16);
  const __m256i hi = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(v + 1)), 16);
  return {_mm256_castsi256_ps(lo), _mm256_castsi256_ps(hi)};
}
inline F32 to_f32(I32 a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
inline I32 round_i32(F32 a) { return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }
inline I32 set(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline I32 add(I32 a, I32 b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
inline F32 bits_to_f32(I32 a) { return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)}; }
inline I32 shift_left(I32 a, int n) { return {_mm256_slli_epi32(a.lo, n), _mm256_slli_epi32(a.hi, n)}; }
inline I32 widen_u8(const uint8_t* p) {
  return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline I32 widen_s8(const uint8_t* p) {
  return {_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline I32 bit_and(I32 a, int32_t mask) {
  const __m256i m = _mm256_set1_epi32(mask);
  return {_mm256_and_si256(a.lo, m), _mm256_and_si256(a.hi, m)};
}
inline I32 bit_or(I32 a, I32 b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
inline I32 shift_right(I32 a, int n) { return {_mm256_srli_epi32(a.lo, n), _mm256_srli_epi32(a.hi, n)}; }
inline void store_s8(int8_t* p, I32 a) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xd8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
inline void reduce_add_both(I32 a, I32 b, int32_t* sum_a, int32_t* sum_b) {
  __m256i z = _mm256_hadd_epi32(_mm256_add_epi32(a.lo, a.hi), _mm256_add_epi32(b.lo, b.hi));
  z = _mm256_hadd_epi32(z, z);
  const __m128i sums = _mm_add_epi32(_mm256_castsi256_si128(z), _mm256_extracti128_si256(z, 1));
  *sum_a = _mm_cvtsi128_si32(sums);
  *sum_b = _mm_extract_epi32(sums, 1);
}
inline float reduce_add(F32 a) {
  const __m256 x = _mm256_add_ps(a.lo, a.hi);
  const __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 z = _mm_add_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_add_ss(z, _mm_shuffle_ps(z, z, 1)));
}
inline float reduce_max(F32 a) {
  const __m256 x = _mm256_max_ps(a.lo, a.hi);
  const __m128 y = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 z = _mm_max_ps(y, _mm_movehl_ps(y, y));
  return _mm_cvtss_f32(_mm_max_ss(z, _mm_shuffle_ps(z, z, 1)));
}
inline F32 keep_first(F32 a, int count, F32 other) {
  const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256 lo = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count), index));
  const __m256 hi = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count - 8), index));
  return {_mm256_blendv_ps(other.lo, a.lo, lo), _mm256_blendv_ps(other.hi, a.hi, hi)};
}

inline U8 load_u8(const uint8_t* p) {
  const auto* v = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(v), _mm256_loadu_si256(v + 1)};
}
inline void store_u8(uint8_t* p, U8 a) {
  auto* v = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(v, a.lo);
  _mm256_storeu_si256(v + 1, a.hi);
}
inline U8 bytes_and(U8 a, uint8_t mask) {
  const __m256i m = _mm256_set1_epi8(static_cast<char>(mask));
  return {_mm256_and_si256(a.lo, m), _mm256_and_si256(a.hi, m)};
}
inline U8 bytes_or(U8 a, U8 b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
template <int n> inline U8 bytes_left(U8 a) { return {_mm256_slli_epi16(a.lo, n), _mm256_slli_epi16(a.hi, n)}; }
template <int n> inline U8 bytes_right(U8 a) { return {_mm256_srli_epi16(a.lo, n), _mm256_srli_epi16(a.hi, n)}; }
struct Table16 { __m256i v; };
inline Table16 table16(const uint8_t* entries) {
  return {_mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(entries)))};
}
inline U8 lookup(Table16 t, U8 index) {
  return {_mm256_shuffle_epi8(t.v, index.lo), _mm256_shuffle_epi8(t.v, index.hi)};
}
inline I32 repeat4(const int8_t* p) {
  int32_t word;
  std::memcpy(&word, p, 4);
  return {_mm256_set1_epi32(word), _mm256_set1_epi32(word)};
}
// vpmaddubsw saturates at 16 bits, so the top bit of u is multiplied apart: |sum| <= 2*128*127 each.
inline __m256i dot4_half(__m256i acc, __m256i u, __m256i s) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i low = _mm256_and_si256(u, _mm256_set1_epi8(0x7f));
  const __m256i top = _mm256_and_si256(u, _mm256_set1_epi8(static_cast<char>(0x80)));
  acc = _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(low, s), ones));
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(top, s), ones));
}
inline I32 dot4(I32 acc, U8 u, I32 s) { return {dot4_half(acc.lo, u.lo, s.lo), dot4_half(acc.hi, u.hi, s.hi)}; }
inline I32 dot4_small(I32 acc, U8 u, I32 s) {
  const __m256i ones = _mm256_set1_epi16(1);
  return {_mm256_add_epi32(acc.lo, _mm256_madd_epi16(_mm256_maddubs_epi16(u.lo, s.lo), ones)),
          _mm256_add_epi32(acc.hi, _mm256_madd_epi16(_mm256_maddubs_epi16(u.hi, s.hi), ones))};
}

#else  // scalar

constexpr bool kManyRegisters = false;
struct F32 { float v[16]; };
struct I32 { int32_t v[16]; };
struct U8 { uint8_t v[64]; };

template <class Out, class Fn> inline Out each16(Fn fn) {
  Out out;
  for (int i = 0; i < 16; ++i) out.v[i] = fn(i);
  return out;
}
template <class Fn> inline U8 each64(Fn fn) {
  U8 out;
  for (int i = 0; i < 64; ++i) out.v[i] = static_cast<uint8_t>(fn(i));
  return out;
}
inline F32 zero_f() { return each16<F32>([](int) { return 0.0f; }); }
inline F32 set(float x) { return each16<F32>([=](int) { return x; }); }
inline F32 load(const float* p) { return each16<F32>([=](int i) { return p[i]; }); }
inline void store(float* p, F32 a) { std::memcpy(p, a.v, sizeof a.v); }
inline F32 add(F32 a, F32 b) { return each16<F32>([&](int i) { return a.v[i] + b.v[i]; }); }
inline F32 sub(F32 a, F32 b) { return each16<F32>([&](int i) { return a.v[i] - b.v[i]; }); }
inline F32 mul(F32 a, F32 b) { return each16<F32>([&](int i) { return a.v[i] * b.v[i]; }); }
inline F32 div(F32 a, F32 b) { return each16<F32>([&](int i) { return a.v[i] / b.v[i]; }); }
inline F32 fma(F32 a, F32 b, F32 c) {
  return each16<F32>([&](int i) { return std::fmaf(a.v[i], b.v[i], c.v[i]); });
}
inline F32 max(F32 a, F32 b) { return each16<F32>([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; }); }
inline F32 min(F32 a, F32 b) { return each16<F32>([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; }); }
inline F32 abs(F32 a) { return each16<F32>([&](int i) { return std::fabs(a.v[i]); }); }
inline F32 load_f16(const uint16_t* p) { return each16<F32>([=](int i) { return half_to_float(p[i]); }); }
inline void store_f16(uint16_t* p, F32 a) {
  for (int i = 0; i < 16; ++i) p[i] = float_to_half(a.v[i]);
}
inline F32 load_bf16(const uint16_t* p) { return each16<F32>([=](int i) { return bfloat_to_float(p[i]); }); }
inline F32 to_f32(I32 a) { return each16<F32>([&](int i) { return static_cast<float>(a.v[i]); }); }
inline I32 round_i32(F32 a) {
  return each16<I32>([&](int i) { return static_cast<int32_t>(std::nearbyintf(a.v[i])); });
}
inline I32 set(int32_t x) { return each16<I32>([=](int) { return x; }); }
inline I32 add(I32 a, I32 b) { return each16<I32>([&](int i) { return a.v[i] + b.v[i]; }); }
inline F32 bits_to_f32(I32 a) {
  F32 out;
  std::memcpy(out.v, a.v, sizeof a.v);
  return out;
}
inline I32 shift_left(I32 a, int n) {
  return each16<I32>([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) << n); });
}
inline I32 widen_u8(const uint8_t* p) { return each16<I32>([=](int i) { return int32_t{p[i]}; }); }
inline I32 widen_s8(const uint8_t* p) { return each16<I32>([=](int i) { return int32_t{static_cast<int8_t>(p[i])}; }); }
inline I32 bit_and(I32 a, int32_t mask) { return each16<I32>([&](int i) { return a.v[i] & mask; }); }
inline I32 bit_or(I32 a, I32 b) { return each16<I32>([&](int i) { return a.v[i] | b.v[i]; }); }
inline I32 shift_right(I32 a, int n) {
  return each16<I32>([&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.v[i]) >> n); });
}
inline void store_s8(int8_t* p, I32 a) {
  for (int i = 0; i < 16; ++i) p[i] = static_cast<int8_t>(a.v[i]);
}
inline void reduce_add_both(I32 a, I32 b, int32_t* sum_a, int32_t* sum_b) {
  *sum_a = *sum_b = 0;
  for (int i = 0; i < 16; ++i) {
    *sum_a += a.v[i];
    *sum_b += b.v[i];
  }
}
inline float reduce_add(F32 a) {
  for (int step = 8; step; step /= 2)
    for (int i = 0; i < step; ++i) a.v[i] += a.v[i + step];
  return a.v[0];
}
inline float reduce_max(F32 a) {
  float best = a.v[0];
  for (float x : a.v) best = x > best ? x : best;
  return best;
}
inline F32 keep_first(F32 a, int count, F32 other) {
  return each16<F32>([&](int i) { return i < count ? a.v[i] : other.v[i]; });
}

inline U8 load_u8(const uint8_t* p) { return each64([=](int i) { return p[i]; }); }
inline void store_u8(uint8_t* p, U8 a) { std::memcpy(p, a.v, 64); }
inline U8 bytes_and(U8 a, uint8_t mask) { return each64([&](int i) { return a.v[i] & mask; }); }
inline U8 bytes_or(U8 a, U8 b) { return each64([&](int i) { return a.v[i] | b.v[i]; }); }
// Bits crossing a byte border are always masked off by the caller, so byte shifts serve.
template <int n> inline U8 bytes_left(U8 a) { return each64([&](int i) { return a.v[i] << n; }); }
template <int n> inline U8 bytes_right(U8 a) { return each64([&](int i) { return a.v[i] >> n; }); }
struct Table16 { uint8_t v[16]; };
inline Table16 table16(const uint8_t* entries) {
  Table16 t;
  std::memcpy(t.v, entries, 16);
  return t;
}
inline U8 lookup(Table16 t, U8 index) { return each64([&](int i) { return t.v[index.v[i] & 15]; }); }
inline I32 repeat4(const int8_t* p) {
  int32_t word;
  std::memcpy(&word, p, 4);
  return set(word);
}
inline I32 dot4(I32 acc, U8 u, I32 s) {
  const auto* bytes = reinterpret_cast<const int8_t*>(s.v);
  return each16<I32>([&](int i) {
    int32_t sum = acc.v[i];
    for (int k = 0; k < 4; ++k) sum += int32_t{u.v[4 * i + k]} * bytes[4 * i + k];
    return sum;
  });
}
inline I32 dot4_small(I32 acc, U8 u, I32 s) { return dot4(acc, u, s); }

#endif

}  // namespace tonnage::TONNAGE_ISA
