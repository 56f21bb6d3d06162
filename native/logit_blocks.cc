#include "logit_blocks.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>

namespace tonnage {

namespace {

// Reductions over lanes that the compiler turns into vectors; a plain running maximum waits for itself.
constexpr int kLanes = 16;

// Sets the largest of n logits; returns how many are NaN or infinity, which no distribution holds.
int32_t reduce(const float* logits, int32_t n, float& peak) {
  float lane[kLanes];
  int32_t wrong[kLanes] = {};
  std::fill(lane, lane + kLanes, -INFINITY);
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) {
      lane[k] = logits[i + k] > lane[k] ? logits[i + k] : lane[k];
      wrong[k] += !(logits[i + k] < INFINITY);
    }
  int32_t total = 0;
  for (; i < n; ++i) {
    lane[0] = std::max(lane[0], logits[i]);
    total += !(logits[i] < INFINITY);
  }
  peak = *std::max_element(lane, lane + kLanes);
  for (int32_t count : wrong) total += count;
  return total;
}

// Branch-free, so that a loop over it becomes vectors. Cody and Waite's reduction, Taylor up to the sixth power.
inline float exp_of(float x) {
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves an integer in the low bits
  const float bounded = x > -LogitBlocks::kReach ? x : -LogitBlocks::kReach;
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
  return x > -LogitBlocks::kReach ? scaled : 0.0f;
}

double block_sum(const float* logits, int32_t n, float peak, float temperature) {
  float weight[LogitBlocks::kSize];
  float lane[kLanes] = {};
  for (int32_t i = 0; i < n; ++i) weight[i] = exp_of((logits[i] - peak) / temperature);
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) lane[k] += weight[i + k];
  double sum = 0;
  for (; i < n; ++i) sum += weight[i];
  for (float part : lane) sum += part;
  return sum;
}

}  // namespace

float falling_exp(float x) { return exp_of(x); }

bool LogitBlocks::scan(const float* logits) {
  int32_t wrong = 0;
  for (int32_t b = 0; b < count(); ++b) wrong += reduce(logits + begin(b), end(b) - begin(b), peaks_[b]);
  return wrong == 0;
}

void LogitBlocks::rescan(const float* logits, const std::vector<uint8_t>& changed) {
  for (int32_t b = 0; b < count(); ++b)
    if (changed[b]) reduce(logits + begin(b), end(b) - begin(b), peaks_[b]);
}

int32_t LogitBlocks::best(const float* logits) const {
  const auto block = static_cast<int32_t>(std::max_element(peaks_.begin(), peaks_.end()) - peaks_.begin());
  return static_cast<int32_t>(std::find(logits + begin(block), logits + end(block), peaks_[block]) - logits);
}

float LogitBlocks::floor_of(size_t count) {
  if (count == 0 || count > peaks_.size()) return -INFINITY;
  order_ = peaks_;
  const auto last = order_.begin() + static_cast<std::ptrdiff_t>(count) - 1;
  std::nth_element(order_.begin(), last, order_.end(), std::greater<>());
  return *last;
}

double LogitBlocks::weigh(const float* logits, float peak, float temperature) {
  sums_.assign(peaks_.size(), 0.0);
  double total = 0;
  for (int32_t b = 0; b < count(); ++b) {
    if (!((peaks_[b] - peak) / temperature > -kReach)) continue;
    sums_[b] = block_sum(logits + begin(b), end(b) - begin(b), peak, temperature);
    total += sums_[b];
  }
  return total;
}

int32_t LogitBlocks::find(const float* logits, float peak, float temperature, double share) const {
  for (int32_t b = 0; b < count(); ++b) {
    if (share >= sums_[b]) {
      share -= sums_[b];
      continue;
    }
    int32_t found = -1;
    for (int32_t i = begin(b); i < end(b) && share >= 0; ++i) {
      const float weight = exp_of((logits[i] - peak) / temperature);
      if (weight > 0) found = i;
      share -= weight;
    }
    return found;  // also where rounding leaves a rest behind the block's last weight
  }
  return best(logits);
}

}  // namespace tonnage
