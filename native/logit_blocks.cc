#include "logit_blocks.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "tonnage/falling_exp.h"

namespace tonnage {

bool LogitBlocks::scan(const float* logits, const Kernels& kernels) {
  kernels_ = &kernels;
  bool usable = true;
  for (int32_t b = 0; b < count(); ++b) usable &= kernels.block_peak(logits + begin(b), end(b) - begin(b), &peaks_[b]);
  return usable;
}

void LogitBlocks::rescan(const float* logits, const std::vector<uint8_t>& changed) {
  for (int32_t b = 0; b < count(); ++b)
    if (changed[b]) kernels_->block_peak(logits + begin(b), end(b) - begin(b), &peaks_[b]);
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

double LogitBlocks::sum_weights(const float* logits, float peak, float temperature) {
  sums_.assign(peaks_.size(), 0.0);
  double total = 0;
  for (int32_t b = 0; b < count(); ++b) {
    if (!((peaks_[b] - peak) / temperature > kNoWeight)) continue;
    sums_[b] = kernels_->block_weight(logits + begin(b), end(b) - begin(b), peak, temperature);
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
      const float weight = falling_exp((logits[i] - peak) / temperature);
      if (weight > 0) found = i;
      share -= weight;
    }
    return found;  // also where rounding leaves a rest behind the block's last weight
  }
  return best(logits);
}

}  // namespace tonnage
