// Thirty-two activations to int8 codes of one scale, with the sums that zero points need.
#pragma once

#include "tonnage/ops.h"
#include "tonnage/vec.h"

namespace tonnage::TONNAGE_ISA {

inline void quantize32(F32 lo, F32 hi, int8_t* codes, ActMeta* meta) {
  const float largest = reduce_max(max(abs(lo), abs(hi)));
  // Far below that the quotient would overflow; such activations are nothing beside any others.
  const F32 inverse = set(largest > 1e-30f ? 127.0f / largest : 0.0f);
  // The clamp only meets values that are not finite.
  const I32 a = round_i32(max(min(mul(lo, inverse), set(127.0f)), set(-127.0f)));
  const I32 b = round_i32(max(min(mul(hi, inverse), set(127.0f)), set(-127.0f)));
  store_s8(codes, a);
  store_s8(codes + 16, b);
  int32_t sum_lo, sum_hi;
  reduce_add_both(a, b, &sum_lo, &sum_hi);
  *meta = {largest / 127.0f, static_cast<float>(sum_lo + sum_hi), -128 * (sum_lo + sum_hi), -128 * sum_lo,
           -128 * sum_hi};
}

// Stores columns [column, column + 32) of row r of `out` in the forms that it has.
inline void store_acts(const Acts& out, int64_t r, int64_t column, F32 lo, F32 hi) {
  if (out.values) {
    store(out.values + r * out.cols + column, lo);
    store(out.values + r * out.cols + column + 16, hi);
  }
  if (out.codes)
    quantize32(lo, hi, out.codes + r * out.stride() + column, out.meta + (r * out.cols + column) / kBlockCols);
}

}  // namespace tonnage::TONNAGE_ISA
