// Quantizing while loading: rows of floats become rows of Q8_0 or Q4_1 blocks.
#pragma once

#include <cstdint>
#include <vector>

#include "tonnage/layout.h"

namespace tonnage {

class Requantizer {
 public:
  // source == target passes rows through; otherwise source is F32, F16 or BF16 and target Q8_0 or Q4_1.
  Requantizer(Layout source, Layout target, int64_t cols);

  // Returns `count` rows in the target format, valid until the next call, or null when values of a row
  // (bad_row) are not finite or too large for the target's scale.
  const uint8_t* convert(const uint8_t* rows, int64_t count);
  int64_t bad_row() const { return bad_row_; }

  static bool can(Layout source, Layout target);

 private:
  Layout source_;
  Layout target_;
  int64_t cols_;
  int64_t bad_row_ = -1;
  std::vector<float> floats_;
  std::vector<uint8_t> blocks_;
};

}  // namespace tonnage
