// Rows whose size is no multiple of sixteen: their last vector has fewer elements.
#pragma once

#include <cstring>

#include "tonnage/vec.h"

namespace tonnage::TONNAGE_ISA {

// Sixteen elements, zero from `count` on, where nothing is read.
[[gnu::always_inline]] inline F32 load_first(const float* x, int64_t count) {
  if (count >= 16) return load(x);
  float part[16] = {};
  if (count > 0) std::memcpy(part, x, static_cast<size_t>(count) * sizeof(float));
  return load(part);
}

// Stores the first `count` elements alone.
[[gnu::always_inline]] inline void store_first(float* x, F32 v, int64_t count) {
  if (count >= 16) return store(x, v);
  float part[16];
  store(part, v);
  if (count > 0) std::memcpy(x, part, static_cast<size_t>(count) * sizeof(float));
}

// Calls fn(i, count) for each vector of n elements: `count` are there from element i on, a constant 16 but for the last.
template <class Fn>
[[gnu::always_inline]] inline void by_sixteen(int64_t n, Fn&& fn) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) fn(i, int64_t{16});
  if (i < n) fn(i, n - i);
}

}  // namespace tonnage::TONNAGE_ISA
