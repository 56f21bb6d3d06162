// Re-quantizing while loading: rows of any format become rows of one that takes fewer bits.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "tonnage/ops.h"

namespace tonnage {

class Requantizer {
 public:
  // target: a layout of panels; a source whose panels those are passes through.
  Requantizer(const Kernels& kernels, Layout source, Layout target, int64_t cols);

  // What all values are multiplied with, of NVFP4: 1 unless said.
  void set_scale(float scale) { scale_ = scale; }
  // How much the squared error of each of the columns counts, above 0, for rows of whole blocks; it has to outlive
  // this. Searches longer.
  void set_importance(const float* importance) { importance_ = importance; }
  bool passes() const { return panel_layout(source_) == target_; }
  // The format of the rows that convert returns.
  Layout converted() const { return passes() ? source_ : target_; }
  // Returns `count` rows in the format `converted`, valid until the next call, or null when values of a row
  // (bad_row) are not finite or too large for the target's scale.
  const uint8_t* convert(const uint8_t* rows, int64_t count);
  int64_t bad_row() const { return bad_row_; }
  // Bytes that it holds.
  int64_t nbytes() const;

  // Whether rows of `cols` elements can go from one to the other.
  static bool can(Layout source, Layout target, int64_t cols);

 private:
  const Kernels* kernels_;
  Layout source_;
  Layout target_;
  int64_t cols_;
  int64_t bad_row_ = -1;
  float scale_ = 1;
  const float* importance_ = nullptr;
  std::vector<uint8_t> panel_;  // the rows as read, packed
  std::vector<float> tile_;
  std::vector<uint8_t> blocks_;
};

// Has a panel of NVFP4 multiply all its values with `scale`.
void scale_panel(uint8_t* panel, int64_t cols, float scale);

// Keeps the smallest of the values told by several threads.
void lower(std::atomic<int64_t>* least, int64_t value);

// ggml's name of a layout that loading can quantize to, null for others.
const char* target_name(Layout layout);

}  // namespace tonnage
