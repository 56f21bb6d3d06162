#include "tonnage/gather_last.h"

#include <cstring>

namespace tonnage {

namespace {

constexpr int64_t kBlockFloats = sizeof(ActBlock) / sizeof(float);

// Returns for each row of the step where it goes, or -1.
std::vector<int32_t> new_rows(const Step& step) {
  std::vector<int32_t> rows(static_cast<size_t>(step.num_rows), -1);
  for (int32_t i = 0; i < step.num_logit_rows; ++i) rows[step.logit_rows[i]] = 0;
  for (int32_t i = 0; i < step.num_pooled; ++i)
    for (int32_t j = 0; j < step.pooled[i].num_rows; ++j) rows[step.pooled[i].first_row + j] = 0;
  int32_t count = 0;
  for (int32_t& row : rows)
    if (row == 0) row = count++;
  return rows;
}

}  // namespace

GatheredStep::GatheredStep(const Step& step) : whole_(step.num_logit_rows == step.num_rows), step_(step) {
  if (whole_) return;
  const std::vector<int32_t> target = new_rows(step);
  for (int32_t s = 0; s < step.num_spans; ++s) {
    const Span& span = step.spans[s];
    for (int32_t i = 0; i < span.num_rows; ++i) {
      const int32_t row = span.first_row + i;
      if (target[row] < 0) continue;
      rows_.push_back(row);
      // Rows side by side stay one span: they share their passes over the keys.
      if (i > 0 && target[row - 1] >= 0) ++spans_.back().num_rows;
      else spans_.push_back({span.pages, target[row], 1, span.position + i});
    }
  }
  for (int32_t i = 0; i < step.num_logit_rows; ++i) logit_rows_.push_back(target[step.logit_rows[i]]);
  for (int32_t i = 0; i < step.num_pooled; ++i) {
    pooled_.push_back(step.pooled[i]);
    pooled_.back().first_row = target[step.pooled[i].first_row];
  }
  const auto count = static_cast<int32_t>(rows_.size());
  whole_ = count == step.num_rows;
  step_ = {count, nullptr, nullptr, spans_.data(), static_cast<int32_t>(spans_.size()), logit_rows_.data(),
           step.num_logit_rows, pooled_.data(), step.num_pooled};
}

void GatheredStep::move(const GatherLastOp& op, Worker worker) const {
  const auto share = [&](float* data, int64_t cols) {
    move_columns(data, cols, cols * worker.index / worker.count, cols * (worker.index + 1) / worker.count);
  };
  share(op.x, op.x_cols);
  share(op.qkv, op.qkv_cols);
  if (op.kept.values) share(op.kept.values, op.kept.cols);
  // Blocks move as lines of floats.
  if (op.kept.blocks) share(reinterpret_cast<float*>(op.kept.blocks), op.kept.stride() * kBlockFloats);
}

// In ascending order, so that no row is overwritten before it has moved.
void GatheredStep::move_columns(float* data, int64_t stride, int64_t begin, int64_t end) const {
  for (size_t i = 0; i < rows_.size(); ++i)
    std::memmove(data + static_cast<int64_t>(i) * stride + begin, data + rows_[i] * stride + begin,
                 static_cast<size_t>(end - begin) * sizeof(float));
}

}  // namespace tonnage
