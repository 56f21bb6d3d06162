// A row of logits in blocks: one pass finds the largest of each, and most of what follows needs only those.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tonnage/ops.h"

namespace tonnage {

class LogitBlocks {
 public:
  static constexpr int32_t kSize = kLogitBlock;

  explicit LogitBlocks(int32_t vocab_size)
      : vocab_size_(vocab_size), peaks_((static_cast<size_t>(vocab_size) + kSize - 1) / kSize) {}

  int32_t count() const { return static_cast<int32_t>(peaks_.size()); }
  int32_t begin(int32_t block) const { return block * kSize; }
  int32_t end(int32_t block) const { return block + 1 < count() ? (block + 1) * kSize : vocab_size_; }
  float peak(int32_t block) const { return peaks_[block]; }

  // Looks at all logits; returns whether each is a number below infinity. Minus infinity forbids a token. kernels: for
  // this row, here and in what follows.
  bool scan(const float* logits, const Kernels& kernels);
  // Looks again at the blocks whose logits have changed since; `changed` has a byte per block.
  void rescan(const float* logits, const std::vector<uint8_t>& changed);

  // The first token of the largest logit.
  int32_t best(const float* logits) const;
  // A logit that at least `count` tokens reach; minus infinity where there are fewer blocks.
  float floor_of(size_t count);

  // Sums exp((logit - peak) / temperature) over all; sums of the blocks are kept for `find`. Temperature above 0.
  double sum_weights(const float* logits, float peak, float temperature);
  // Of what `sum_weights` saw: the first token up to which the weights, token by token, come to more than `share`.
  int32_t find(const float* logits, float peak, float temperature, double share) const;

 private:
  const Kernels* kernels_ = nullptr;
  int32_t vocab_size_;
  std::vector<float> peaks_;
  std::vector<float> order_;
  std::vector<double> sums_;
};

}  // namespace tonnage
