#include "tonnage/requantize.h"

#include <atomic>
#include <cstddef>
#include <cstring>

#include "tonnage/program.h"

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

void lower(std::atomic<int64_t>* least, int64_t value) {
  int64_t seen = least->load();
  while (value < seen && !least->compare_exchange_weak(seen, value)) {
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
  bad_row_ = kernels_->requantize({panel_layout(source_), target_, panel_.data(), count, cols_, importance_}, tile_.data(), blocks_.data());
  return bad_row_ < 0 ? blocks_.data() : nullptr;
}

int64_t Executor::requantize(Layout source, Layout target, int64_t rows, int64_t cols, const uint8_t* data,
                             const float* importance, uint8_t* out) {
  const std::lock_guard<std::mutex> lock(busy_);
  const int64_t from_bytes = source_row_bytes(source, cols), to_bytes = source_row_bytes(target, cols);
  std::vector<Requantizer> each(team_.size(), Requantizer(*kernels_, source, target, cols));
  std::atomic<int64_t> next{0};
  std::atomic<int64_t> bad_row{rows};
  if (importance)
    for (Requantizer& one : each) one.set_importance(importance);
  team_.run([&](int index) {
    for (int64_t p = next++; p * kPanelRows < rows && bad_row == rows; p = next++) {
      const int64_t first = p * kPanelRows;
      const int64_t count = rows - first < kPanelRows ? rows - first : kPanelRows;
      const uint8_t* blocks = each[index].convert(data + first * from_bytes, count);
      if (blocks) std::memcpy(out + first * to_bytes, blocks, static_cast<size_t>(count * to_bytes));
      else lower(&bad_row, first + each[index].bad_row());
    }
  });
  return bad_row < rows ? bad_row.load() : -1;
}

}  // namespace tonnage
