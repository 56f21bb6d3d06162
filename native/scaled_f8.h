// Weights in eight bits (E4M3) with scales beside them, as folders of Hugging Face hold them.
#pragma once

#include <cstdint>

namespace tonnage {

// Scales of a matrix: none, one, one per row, or one per 128 x 128 elements, row after row.
struct TensorScales {
  const float* values = nullptr;
  int64_t count = 0;
  int64_t rows = 0;
  int64_t cols = 0;

  bool fit() const;
  float at(int64_t row, int64_t col) const;
};

// Rows first to first + count of E4M3 codes, scaled and rounded to float16. Returns the first row that holds a value
// which is not finite or which float16 does not hold, or -1.
int64_t f8_to_half(const uint8_t* codes, int64_t first, int64_t count, const TensorScales& scales, uint16_t* out);

}  // namespace tonnage
