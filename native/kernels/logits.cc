// Passes over a row of logits.
#include <algorithm>
#include <cfloat>
#include <cmath>

#include "kernels/table.h"
#include "tonnage/falling_exp.h"
#include "tonnage/vec.h"

namespace tonnage::TONNAGE_ISA {

namespace {

// A running maximum of one vector would wait for itself.
constexpr int kChains = 4;

}  // namespace

// Reads from front to back: in another order, as compilers make of plain lanes, the hardware's prefetcher may give up.
bool block_peak(const float* logits, int64_t n, float* peak) {
  F32 best[kChains], checks[kChains];
  std::fill(best, best + kChains, set(-INFINITY));
  std::fill(checks, checks + kChains, zero_f());
  int64_t i = 0;
  for (; i + 16 * kChains <= n; i += 16 * kChains)
    for (int c = 0; c < kChains; ++c) {
      const F32 x = load(logits + i + 16 * c);
      best[c] = max(best[c], x);
      // 0, or NaN where x is NaN or infinite: of two, max gives the second if one is NaN.
      checks[c] = add(checks[c], mul(max(set(-FLT_MAX), x), zero_f()));
    }
  float most = reduce_max(max(max(best[0], best[1]), max(best[2], best[3])));
  bool usable = reduce_add(add(add(checks[0], checks[1]), add(checks[2], checks[3]))) == 0;
  for (; i < n; ++i) {
    most = std::max(most, logits[i]);
    usable &= logits[i] < INFINITY;
  }
  *peak = most;
  return usable;
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
