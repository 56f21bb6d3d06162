// The exponential of what is at most 0, without a branch, so that loops over it become vectors.
#pragma once

#include <bit>
#include <cstdint>

namespace tonnage {

// From here down it is 0.
constexpr float kNoWeight = -80.0f;

// exp(x) for x <= 0, to about an ulp. Cody and Waite's reduction, Taylor's series up to the sixth power.
inline float falling_exp(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const float bounded = x > kNoWeight ? x : kNoWeight;
  const float shifted = bounded * 1.44269504f + kRound;
  const float n = shifted - kRound;
  const float r = (bounded - n * 0.693359375f) - n * -2.12194440e-4f;
  float y = 1.0f / 720;
  y = y * r + 1.0f / 120;
  y = y * r + 1.0f / 24;
  y = y * r + 1.0f / 6;
  y = y * r + 0.5f;
  y = y * r * r + r + 1.0f;
  const int32_t power = std::bit_cast<int32_t>(shifted) - std::bit_cast<int32_t>(kRound);
  const float scaled = y * std::bit_cast<float>((power + 127) << 23);
  return x > kNoWeight ? scaled : 0.0f;
}

}  // namespace tonnage
