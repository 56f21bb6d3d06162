// Mean and spread of a row, for LayerNorm (Ba et al. 2016).
#pragma once

#include <cmath>

#include "kernels/row_ends.h"

namespace tonnage::TONNAGE_ISA {

struct Moments {
  float mean;
  float inverse;  // of the square root of variance and eps
};

// Each sum is four chains of sixteen lanes, as those of RMSNorm. The variance is that around the mean.
inline Moments moments(const float* x, int64_t n, float eps) {
  F32 sums[4] = {zero_f(), zero_f(), zero_f(), zero_f()};
  by_sixteen(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    sums[i / 16 % 4] = add(sums[i / 16 % 4], load_first(x + i, count));
  });
  const float mean = reduce_add(add(add(sums[0], sums[1]), add(sums[2], sums[3]))) / static_cast<float>(n);
  float means[16];
  store(means, set(mean));
  F32 squares[4] = {zero_f(), zero_f(), zero_f(), zero_f()};
  by_sixteen(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    const F32 v = sub(load_first(x + i, count), load_first(means, count));  // zero behind the end
    squares[i / 16 % 4] = fma(v, v, squares[i / 16 % 4]);
  });
  const float sum = reduce_add(add(add(squares[0], squares[1]), add(squares[2], squares[3])));
  return {mean, 1.0f / std::sqrt(sum / static_cast<float>(n) + eps)};
}

}  // namespace tonnage::TONNAGE_ISA
