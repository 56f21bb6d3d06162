// The last-token gather: the rows of a step that later operations read once the last keys and values are written.
#pragma once

#include <cstdint>
#include <vector>

#include "tonnage/ops.h"

namespace tonnage {

// A step of only those rows that have logits or are pooled, for the ops behind GatherLastOp. It points into the step
// that it was made of, and has neither tokens nor positions.
class GatheredStep {
 public:
  explicit GatheredStep(const Step& step);
  GatheredStep(const GatheredStep&) = delete;
  GatheredStep& operator=(const GatheredStep&) = delete;

  const Step& step() const { return step_; }
  // Whether no row is left out: nothing has to move.
  bool is_whole() const { return whole_; }
  // Moves the rows to the front of the buffers; each worker its share of the columns.
  void move(const GatherLastOp& op, Worker worker) const;

 private:
  void move_columns(float* data, int64_t stride, int64_t begin, int64_t end) const;

  bool whole_;
  std::vector<int32_t> rows_;  // of the whole step, ascending
  std::vector<Span> spans_;
  std::vector<int32_t> logit_rows_;
  std::vector<PooledRows> pooled_;
  Step step_;
};

}  // namespace tonnage
