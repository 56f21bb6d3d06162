#include "tonnage/requantize.h"

#include <cstddef>
#include <cstring>

namespace tonnage {

const char* target_name(Layout layout) {
  switch (layout) {
    case Layout::Q8_0: return "Q8_0";
    case Layout::Q6_K: return "Q6_K";
    case Layout::Q5_K: return "Q5_K";
    case Layout::Q5_1: return "Q5_1";
    case Layout::Q5_0: return "Q5_0";
    case Layout::Q4_K: return "Q4_K";
    case Layout::Q4_1: return "Q4_1";
    case Layout::Q4_0: return "Q4_0";
    case Layout::IQ4_NL: return "IQ4_NL";
    case Layout::IQ4_XS: return "IQ4_XS";
    case Layout::Q3_K: return "Q3_K";
    case Layout::Q2_K: return "Q2_K";
    default: return nullptr;
  }
}

void scale_panel(uint8_t* panel, int64_t cols, float scale) {
  const LayoutShape shape = layout_shape(Layout::NVFP4);
  for (int64_t b = 0; b < cols / shape.source_cols; ++b)
    for (int lane = 0; lane < 16; ++lane) std::memcpy(panel + b * shape.panel_bytes + 4 * lane, &scale, 4);
}

Requantizer::Requantizer(const Kernels& kernels, Layout source, Layout target, int64_t cols)
    : kernels_(&kernels), source_(source), target_(target), cols_(cols) {
  if (passes()) return;
  panel_.resize(static_cast<size_t>(panel_bytes(source, cols)));
  tile_.resize(kRequantizeFloats);
  blocks_.resize(static_cast<size_t>(kPanelRows * source_row_bytes(target, cols)));
}

int64_t Requantizer::nbytes() const {
  return static_cast<int64_t>(panel_.capacity() + sizeof(float) * tile_.capacity() + blocks_.capacity());
}

bool Requantizer::can(Layout source, Layout target, int64_t cols) {
  const LayoutShape from = layout_shape(source), to = layout_shape(target);
  if (panel_layout(source) == target) return from.source_cols && cols % from.source_cols == 0;
  // Blocks of 32 are filled up with zeros.
  return from.source_cols && target_name(target) && cols % from.source_cols == 0 &&
         (to.source_cols == kBlockCols || cols % to.source_cols == 0);
}

const uint8_t* Requantizer::convert(const uint8_t* rows, int64_t count) {
  if (passes()) return rows;
  kernels_->pack(source_, rows, count, cols_, panel_.data());
  if (source_ == Layout::NVFP4) scale_panel(panel_.data(), cols_, scale_);
  bad_row_ = kernels_->requantize({panel_layout(source_), target_, panel_.data(), count, cols_}, tile_.data(), blocks_.data());
  return bad_row_ < 0 ? blocks_.data() : nullptr;
}

}  // namespace tonnage
