// Matrix products with their epilogues: bias, residual, soft cap, gated activation.
#include "kernels/product.h"
#include "kernels/quantize.h"
#include "kernels/table.h"
#include "tonnage/vec_math.h"

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
    y = op.accumulate ? fma(y, set(op.scale), load(base + 16 * g)) : mul(y, set(op.scale));
    if (op.cap > 0) y = mul(set(op.cap), tanh(mul(y, set(1.0f / op.cap))));
    store(base + 16 * g, y);
  }
  if (valid < kPanelRows) std::memcpy(target, tail, valid * sizeof(float));
}

// All rows of a whole panel without a cap.
template <bool bias, bool accumulate>
void finish_whole(const MatmulOp& op, int part, int64_t panel, const float* product, int rows) {
  const int64_t row = panel * kPanelRows;
  F32 b[2] = {zero_f(), zero_f()};
  if constexpr (bias) unroll<2>([&](auto g) { b[g] = load(op.bias[part] + row + 16 * g); });
  float* out = op.out + op.out_column[part] + row;
  for (int r = 0; r < rows; ++r, out += op.out_stride) {
    // Rows lie pages apart, where no prefetcher follows.
    if constexpr (accumulate) __builtin_prefetch(out + 12 * op.out_stride, 1);
    unroll<2>([&](auto g) {
      F32 y = load(product + 32 * r + 16 * g);
      if constexpr (bias) y = add(y, b[g]);
      // By a scale of 1 the bits of a plain sum.
      y = accumulate ? fma(y, set(op.scale), load(out + 16 * g)) : mul(y, set(op.scale));
      store(out + 16 * g, y);
    });
  }
}

void finish_panel(const MatmulOp& op, int part, int64_t panel, const float* product, int rows) {
  if ((panel + 1) * kPanelRows > op.parts[part].rows || op.cap > 0) {
    for (int r = 0; r < rows; ++r) finish_row(op, part, panel, product + 32 * r, op.out + r * op.out_stride);
  } else if (op.bias[part]) {
    (op.accumulate ? finish_whole<true, true> : finish_whole<true, false>)(op, part, panel, product, rows);
  } else {
    (op.accumulate ? finish_whole<false, true> : finish_whole<false, false>)(op, part, panel, product, rows);
  }
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
      finish_panel(op, i, p, product, rows);
    }
    first += w.panels();
  }
}

namespace {

template <Activation activation>
F32 activated(F32 x) {
  if constexpr (activation == Activation::SiLU) return silu(x);
  if constexpr (activation == Activation::GeluTanh) return gelu_tanh(x);
  if constexpr (activation == Activation::SquaredRelu) return squared_relu(x);
  return gelu(x);
}

template <Activation activation, bool biased, bool plain>
void finish_gated(const GatedOp& op, int64_t panel, const float* gate, const float* up, int rows) {
  ActWriter writer = ActWriter::down(op.out, panel);
  const int64_t valid = op.out.cols - panel * kBlockCols;
  for (int r = 0; r < rows; ++r) {
    F32 y[2];
    for (int g = 0; g < 2; ++g) {
      F32 x = load(gate + 32 * r + 16 * g);
      if (biased) x = add(x, load(op.gate_bias + 32 * panel + 16 * g));
      y[g] = activated<activation>(x);
      if (plain) continue;
      F32 other = load(up + 32 * r + 16 * g);
      if (biased) other = add(other, load(op.up_bias + 32 * panel + 16 * g));
      y[g] = mul(y[g], other);
    }
    if (valid < kBlockCols) writer.add_first(y[0], y[1], valid);
    else writer.add(y[0], y[1]);
  }
  writer.finish();
}

template <Activation activation>
void finish(const GatedOp& op, int64_t panel, const float* gate, const float* up, int rows) {
  const auto run = op.up.data ? (op.gate_bias ? finish_gated<activation, true, false> : finish_gated<activation, false, false>)
                              : (op.gate_bias ? finish_gated<activation, true, true> : finish_gated<activation, false, true>);
  run(op, panel, gate, up, rows);
}

}  // namespace

void gated(const GatedOp& op, const Step& step, Worker worker) {
  const Range mine = share(op.gate.panels(), worker);
  float* gate = panel_out(worker, 0);
  float* up = panel_out(worker, 1);
  for (int64_t p = mine.begin; p < mine.end; ++p) {
    panel_product(op.gate.layout, op.gate.data + p * op.gate.panel_stride, op.in, step.num_rows, gate, worker.scratch);
    if (op.up.data)
      panel_product(op.up.layout, op.up.data + p * op.up.panel_stride, op.in, step.num_rows, up, worker.scratch);
    switch (op.activation) {
      case Activation::SiLU: finish<Activation::SiLU>(op, p, gate, up, step.num_rows); break;
      case Activation::GeluTanh: finish<Activation::GeluTanh>(op, p, gate, up, step.num_rows); break;
      case Activation::Gelu: finish<Activation::Gelu>(op, p, gate, up, step.num_rows); break;
      case Activation::SquaredRelu: finish<Activation::SquaredRelu>(op, p, gate, up, step.num_rows); break;
    }
  }
}

}  // namespace tonnage::TONNAGE_ISA
