// Passes over a row of logits, in plain lanes that the compiler turns into vectors.
#include <algorithm>
#include <cmath>

#include "kernels/table.h"
#include "tonnage/falling_exp.h"

namespace tonnage::TONNAGE_ISA {

namespace {

// A running maximum of one lane would wait for itself.
constexpr int kLanes = 64;

}  // namespace

bool block_peak(const float* logits, int64_t n, float* peak) {
  float lane[kLanes];
  int32_t wrong[kLanes] = {};
  std::fill(lane, lane + kLanes, -INFINITY);
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) {
      lane[k] = logits[i + k] > lane[k] ? logits[i + k] : lane[k];
      wrong[k] |= !(logits[i + k] < INFINITY);
    }
  int32_t any = 0;
  for (; i < n; ++i) {
    lane[0] = logits[i] > lane[0] ? logits[i] : lane[0];
    any |= !(logits[i] < INFINITY);
  }
  *peak = *std::max_element(lane, lane + kLanes);
  for (int32_t one : wrong) any |= one;
  return any == 0;
}

double block_weight(const float* logits, int64_t n, float peak, float temperature) {
  constexpr int kWide = 16;
  float weight[kLogitBlock];
  float lane[kWide] = {};
  for (int64_t i = 0; i < n; ++i) weight[i] = falling_exp((logits[i] - peak) / temperature);
  int64_t i = 0;
  for (; i + kWide <= n; i += kWide)
    for (int k = 0; k < kWide; ++k) lane[k] += weight[i + k];
  double sum = 0;
  for (; i < n; ++i) sum += weight[i];
  for (float part : lane) sum += part;
  return sum;
}

}  // namespace tonnage::TONNAGE_ISA
