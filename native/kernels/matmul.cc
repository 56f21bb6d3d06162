// Matrix products with their epilogues: bias, residual, soft cap, gated activation.
#include "kernels/product.h"
#include "kernels/quantize.h"
#include "kernels/table.h"

namespace tonnage::TONNAGE_ISA {

namespace {

float* panel_out(Worker worker, int which) {
  return reinterpret_cast<float*>(worker.scratch + kUnpackBytes + which * kPanelOutBytes);
}

void finish_row(const MatmulOp& op, int part, int64_t panel, const float* product, float* out) {
  const int64_t row = panel * kPanelRows;
  const int64_t valid = op.parts[part].rows - row < kPanelRows ? op.parts[part].rows - row : kPanelRows;
  alignas(64) float tail[kPanelRows];
  float* target = out + op.out_column[part] + row;
  if (valid < kPanelRows && op.accumulate) std::memcpy(tail, target, valid * sizeof(float));
  float* base = valid < kPanelRows ? tail : target;
  for (int g = 0; g < 2; ++g) {
    F32 y = load(product + 16 * g);
    if (op.bias[part]) y = add(y, load(op.bias[part] + row + 16 * g));
    if (op.accumulate) y = add(y, load(base + 16 * g));
    if (op.cap > 0) y = mul(set(op.cap), tanh(mul(y, set(1.0f / op.cap))));
    store(base + 16 * g, y);
  }
  if (valid < kPanelRows) std::memcpy(target, tail, valid * sizeof(float));
}

}  // namespace

void matmul(const MatmulOp& op, const Step& step, Worker worker) {
  const int rows = op.gather ? step.num_logit_rows : step.num_rows;
  int64_t total = 0;
  for (int i = 0; i < op.num_parts; ++i) total += op.parts[i].panels();
  const Range mine = share(total, worker);
  float* product = panel_out(worker, 0);
  int64_t first = 0;
  for (int i = 0; i < op.num_parts && rows > 0; ++i) {
    const Weight& w = op.parts[i];
    const int64_t begin = mine.begin > first ? mine.begin - first : 0;
    const int64_t end = mine.end - first < w.panels() ? mine.end - first : w.panels();
    for (int64_t p = begin; p < end; ++p) {
      panel_product(w.layout, w.data + p * w.panel_stride, op.in, rows, product, worker.scratch);
      for (int r = 0; r < rows; ++r) finish_row(op, i, p, product + 32 * r, op.out + r * op.out_stride);
    }
    first += w.panels();
  }
}

namespace {

template <bool gelu>
void finish_gated(const GatedOp& op, int64_t panel, const float* gate, const float* up, int rows) {
  const int64_t column = panel * kPanelRows;
  for (int r = 0; r < rows; ++r) {
    F32 y[2];
    for (int g = 0; g < 2; ++g) {
      const F32 x = load(gate + 32 * r + 16 * g);
      y[g] = mul(gelu ? gelu_tanh(x) : silu(x), load(up + 32 * r + 16 * g));
    }
    store_acts(op.out, r, column, y[0], y[1]);
  }
}

}  // namespace

void gated(const GatedOp& op, const Step& step, Worker worker) {
  const Range mine = share(op.gate.panels(), worker);
  float* gate = panel_out(worker, 0);
  float* up = panel_out(worker, 1);
  for (int64_t p = mine.begin; p < mine.end; ++p) {
    panel_product(op.gate.layout, op.gate.data + p * op.gate.panel_stride, op.in, step.num_rows, gate, worker.scratch);
    panel_product(op.up.layout, op.up.data + p * op.up.panel_stride, op.in, step.num_rows, up, worker.scratch);
    if (op.gelu) finish_gated<true>(op, p, gate, up, step.num_rows);
    else finish_gated<false>(op, p, gate, up, step.num_rows);
  }
}

}  // namespace tonnage::TONNAGE_ISA
