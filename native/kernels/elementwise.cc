// Row-wise steps: embedding, RMSNorm, rotary positions, quantization of activations.
#include "kernels/formats.h"
#include "kernels/hadamard.h"
#include "kernels/layer_norm.h"
#include "kernels/quantize.h"
#include "kernels/row_ends.h"
#include "kernels/table.h"

namespace tonnage::TONNAGE_ISA {

namespace {

template <Layout layout>
void embed_quantized(const Weight& table, int64_t token, float factor, float* x, bool onto, uint8_t* scratch) {
  using F = Format<layout>;
  constexpr int parts = F::kHalves ? 2 : 1;
  const uint8_t* panel = table.data + token / kPanelRows * table.panel_stride;
  const int group = static_cast<int>(token % kPanelRows) / 16;
  const int lane = static_cast<int>(token % 16);
  const auto* floats = reinterpret_cast<const float*>(scratch + 1024);
  for (int64_t b = 0; b < ceil_div(table.cols, kBlockCols); ++b) {
    unpack_block(F(panel + b / F::kSuper * F::kBytes), static_cast<int>(b % F::kSuper), scratch);
    const int64_t rest = table.cols - b * kBlockCols;
    for (int c = 0; c < (rest < kBlockCols ? rest : kBlockCols); ++c) {
      const int slot = 16 * (parts * group + (parts == 2 ? c / 16 : 0)) + lane;
      const auto code = static_cast<float>(scratch[512 * group + 64 * (c / 4) + 4 * lane + c % 4]);
      const float value = F::kAffine ? floats[slot] * code + floats[32 * parts + slot] : floats[slot] * (code - 128);
      float& out = x[b * kBlockCols + c];
      out = onto ? out + value * factor : value * factor;
    }
  }
}

void embed_float(const Weight& table, int64_t token, float factor, float* x, bool onto) {
  const uint8_t* panel = table.data + token / kPanelRows * table.panel_stride;
  const int64_t lane = token % kPanelRows;
  for (int64_t k = 0; k < table.cols; ++k) {
    const int64_t i = k * kPanelRows + lane;
    const float value = table.layout == Layout::F32    ? reinterpret_cast<const float*>(panel)[i]
                        : table.layout == Layout::F16 ? half_to_float(halves(panel)[i])
                                                      : bfloat_to_float(halves(panel)[i]);
    x[k] = onto ? x[k] + value * factor : value * factor;
  }
}

// x = factor times a row of the table, or that added onto x.
void embed_row(const Weight& table, int64_t row, float factor, float* x, bool onto, uint8_t* scratch) {
  if (is_float(table.layout)) return embed_float(table, row, factor, x, onto);
  with_quantized(table.layout, [&](auto l) { embed_quantized<l>(table, row, factor, x, onto, scratch); });
}

F32 sum_of_squares(const float* x, int64_t n) {
  F32 acc[4] = {zero_f(), zero_f(), zero_f(), zero_f()};
  by_sixteen(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    const F32 v = load_first(x + i, count);
    acc[i / 16 % 4] = fma(v, v, acc[i / 16 % 4]);
  });
  return add(add(acc[0], acc[1]), add(acc[2], acc[3]));
}

float inverse_rms(const float* x, int64_t n, float eps) {
  return 1.0f / std::sqrt(reduce_add(sum_of_squares(x, n)) / static_cast<float>(n) + eps);
}

// out = rmsnorm(x) * weight; out may be x.
void norm_row(const float* x, const float* weight, float eps, int64_t n, float* out) {
  const F32 factor = set(inverse_rms(x, n, eps));
  by_sixteen(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    store_first(out + i, mul(mul(load_first(x + i, count), factor), load_first(weight + i, count)), count);
  });
}

// out = x + rmsnorm(added) * weight; out may be x.
void add_norm(const float* x, const float* added, const float* weight, float eps, int64_t n, float* out) {
  const F32 factor = set(inverse_rms(added, n, eps));
  by_sixteen(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    const F32 normed = mul(load_first(added + i, count), factor);
    store_first(out + i, fma(normed, load_first(weight + i, count), load_first(x + i, count)), count);
  });
}

// Calls use(at): at(i, count) gives sixteen elements of the normed row, from i on, of which `count` are there.
template <class Op, class Use>
[[gnu::always_inline]] inline void with_normed(const Op& op, const float* x, int64_t n, Use&& use) {
  if (!op.weight)
    return use([&](int64_t i, int64_t count) __attribute__((always_inline)) { return load_first(x + i, count); });
  if (!op.centred) {
    const F32 factor = set(inverse_rms(x, n, op.eps));
    return use([&](int64_t i, int64_t count) __attribute__((always_inline)) {
      return mul(mul(load_first(x + i, count), factor), load_first(op.weight + i, count));
    });
  }
  const Moments row = moments(x, n, op.eps);
  const F32 mean = set(row.mean), factor = set(row.inverse);
  if (op.bias)
    return use([&](int64_t i, int64_t count) __attribute__((always_inline)) {
      const F32 spread = mul(sub(load_first(x + i, count), mean), factor);
      return fma(spread, load_first(op.weight + i, count), load_first(op.bias + i, count));
    });
  use([&](int64_t i, int64_t count) __attribute__((always_inline)) {
    return mul(mul(sub(load_first(x + i, count), mean), factor), load_first(op.weight + i, count));
  });
}

}  // namespace

void embed(const EmbedOp& op, const Step& step, Worker worker) {
  const Range mine = share(step.num_rows, worker);
  for (int64_t r = mine.begin; r < mine.end; ++r) {
    float* x = op.x + r * op.table.cols;
    embed_row(op.table, step.tokens[r], op.scale, x, false, worker.scratch);
    if (op.positions.data) embed_row(op.positions, step.positions[r], 1.0f, x, true, worker.scratch);
  }
}

void rope_table(const RopeTableOp& op, const Step& step, Worker worker) {
  const Range mine = share(int64_t{step.num_rows} * op.pairs, worker);
  for (int64_t i = mine.begin; i < mine.end; ++i) {
    const int64_t r = i / op.pairs;
    const int64_t p = i % op.pairs;
    const double angle = static_cast<double>(step.positions[r]) * static_cast<double>(op.frequencies[p]);
    op.table[(2 * r) * op.pairs + p] = static_cast<float>(std::cos(angle) * op.scale);
    op.table[(2 * r + 1) * op.pairs + p] = static_cast<float>(std::sin(angle) * op.scale);
  }
}

void norm(const NormOp& op, const Step& step, Worker worker) {
  const Range mine = share(op.gather ? step.num_logit_rows : step.num_rows, worker);
  const int64_t n = op.out.cols;
  for (int64_t r = mine.begin; r < mine.end; ++r) {
    const int64_t source = op.gather ? step.logit_rows[r] : r;
    float* x = op.x + source * n;
    if (op.added) add_norm(x, op.added + source * n, op.added_weight, op.eps, n, x);
    ActWriter writer = ActWriter::along(op.out, r, 0);
    with_normed(op, x, n, [&](auto&& at) __attribute__((always_inline)) { writer.add_row(0, n, at); });
    writer.finish();
  }
}

// Workers share the columns, so every one of them norms all rows: little beside what computed them.
void pool_hidden(const PoolHiddenOp& op, const Step& step, Worker worker) {
  const Range mine = share(ceil_div(op.cols, kBlockCols), worker);
  const int64_t begin = mine.begin * kBlockCols;
  const int64_t end = mine.end * kBlockCols < op.cols ? mine.end * kBlockCols : op.cols;
  auto* whole = reinterpret_cast<float*>(worker.scratch);
  for (int32_t p = 0; p < step.num_pooled && begin < end; ++p) {
    const PooledRows& rows = step.pooled[p];
    double* sum = op.sums + rows.slot * op.cols;
    for (int64_t i = begin; i < end && rows.begins; ++i) sum[i] = 0;
    for (int64_t r = rows.first_row; r < int64_t{rows.first_row} + rows.num_rows; ++r) {
      const float* x = op.x + r * op.cols;
      if (op.added) {
        add_norm(x, op.added + r * op.cols, op.added_weight, op.eps, op.cols, whole);
        x = whole;
      }
      with_normed(op, x, op.cols, [&](auto&& at) {
        by_sixteen(end - begin, [&](int64_t ahead, int64_t count) {
          const int64_t i = begin + ahead;
          float hidden[16];
          store(hidden, at(i, count));
          for (int64_t k = 0; k < count; ++k) sum[i + k] += hidden[k];
        });
      });
    }
  }
}

void quantize(const QuantizeOp& op, const Step& step, Worker worker) {
  const int64_t blocks = op.out.num_blocks();
  const Range mine = share(step.num_rows * blocks, worker);
  for (int64_t next = mine.begin; next < mine.end;) {
    const int64_t r = next / blocks, first = next % blocks;
    const int64_t count = mine.end - next < blocks - first ? mine.end - next : blocks - first;
    ActWriter writer = ActWriter::along(op.out, r, first);
    const float* x = op.x + r * op.out.cols;
    const int64_t end = (first + count) * kBlockCols < op.out.cols ? (first + count) * kBlockCols : op.out.cols;
    writer.add_row(first * kBlockCols, end, [&](int64_t i, int64_t n) __attribute__((always_inline)) { return load_first(x + i, n); });
    writer.finish();
    next += count;
  }
}

// Workers share queries and keys apart, so that a single row keeps two of them busy.
void qk_norm(const QkNormOp& op, const Step& step, Worker worker) {
  const Range mine = share(int64_t{step.num_rows} * 2, worker);
  for (int64_t i = mine.begin; i < mine.end; ++i) {
    float* q = op.qkv + i / 2 * op.cols;
    if (i % 2 == 0) norm_row(q, op.q_norm, op.eps, op.q_cols, q);
    else norm_row(q + op.q_cols, op.k_norm, op.eps, op.k_cols, q + op.q_cols);
  }
}

namespace {

// Apart for each stride, which lets the compiler use vectors.
template <bool interleaved>
void rope_head(float* __restrict x, const float* __restrict cosines, const float* __restrict sines, int pairs) {
  for (int p = 0; p < pairs; ++p) {
    const int i = interleaved ? 2 * p : p;
    const int k = interleaved ? 2 * p + 1 : p + pairs;
    const float first = x[i] * cosines[p] - x[k] * sines[p];
    const float second = x[k] * cosines[p] + x[i] * sines[p];
    x[i] = first;
    x[k] = second;
  }
}

// x -= bias where a pair turns slowly, and where nothing turns.
void subtract_low_frequency_bias(const RopeKvWriteOp& op, float* x, const float* bias) {
  for (int p = op.low_from; p < op.pairs; ++p) {
    const int i = op.interleaved ? 2 * p : p;
    const int k = op.interleaved ? 2 * p + 1 : p + op.pairs;
    x[i] -= bias[i];
    x[k] -= bias[k];
  }
  for (int d = 2 * op.pairs; d < op.kv.k_dim; ++d) x[d] -= bias[d];
}

void scale_head(float* x, int64_t n, float factor) {
  by_sixteen(n, [&](int64_t i, int64_t count) __attribute__((always_inline)) {
    store_first(x + i, mul(load_first(x + i, count), set(factor)), count);
  });
}

float query_scale(const RopeKvWriteOp& op, int position) {
  if (op.temperature == 0) return op.scale;
  const double far = std::log(1.0 + position / op.temperature_tokens);
  return static_cast<float>(op.scale * (1 + op.temperature * far));
}

// Keeps what f16 cannot hold finite: an infinity would reach rows that do not even see it, as 0 * inf.
F32 within_half(F32 x) { return max(min(x, set(65504.0f)), set(-65504.0f)); }

// Returns 1 / scale after storing the scale of x[size] in f16: codes follow from what is stored, so that
// its rounding is no error of theirs.
float store_scale(uint16_t* scale, const float* x, int size) {
  F32 best = zero_f();
  for (int d = 0; d < size; d += 16) best = max(best, abs(within_half(load(x + d))));
  *scale = float_to_half(reduce_max(best) / 127.0f);
  const float stored = half_to_float(*scale);
  return stored > 0 ? 1.0f / stored : 0.0f;
}

// Sixteen codes plus 128.
void store_codes(uint8_t* codes, const float* x, float inverse) {
  const F32 quotient = mul(within_half(load(x)), set(inverse));
  // A subnormal scale may be too small by half.
  store_s8(reinterpret_cast<int8_t*>(codes), round_i32(max(min(quotient, set(127.0f)), set(-127.0f))));
  for (int i = 0; i < 16; ++i) codes[i] ^= 0x80;
}

void store_key_codes(uint8_t* keys, int slot, const float* x, int k_pad) {
  const float inverse = store_scale(reinterpret_cast<uint16_t*>(keys) + slot, x, k_pad);
  uint8_t* line = keys + kKvScaleBytes + slot / 16 * 16 * k_pad + slot % 16 * 4;
  uint8_t codes[16];
  for (int d = 0; d < k_pad; d += 16) {
    store_codes(codes, x + d, inverse);
    for (int i = 0; i < 16; i += 4) std::memcpy(line + (d + i) * 16, codes + i, 4);
  }
}

void store_value_codes(uint8_t* values, int slot, const float* x, int v_pad) {
  const float inverse = store_scale(reinterpret_cast<uint16_t*>(values) + slot, x, v_pad);
  uint8_t* line = values + kKvScaleBytes + slot / 4 * 4 * v_pad + slot % 4;
  uint8_t codes[16];
  for (int d = 0; d < v_pad; d += 16) {
    store_codes(codes, x + d, inverse);
    for (int i = 0; i < 16; ++i) line[4 * (d + i)] = codes[i];
  }
}

void store_key(const KvLayer& kv, int32_t page, int head, int slot, const float* x) {
  if (kv.format == KvFormat::Int8) return store_key_codes(kv.keys(page, head), slot, x, kv.k_pad);
  auto* keys = reinterpret_cast<uint16_t*>(kv.keys(page, head)) + slot / 16 * 16 * kv.k_dim + slot % 16;
  uint16_t halves[16];
  by_sixteen(kv.k_dim, [&](int64_t d, int64_t count) __attribute__((always_inline)) {
    store_f16(halves, within_half(load_first(x + d, count)));
    for (int64_t i = 0; i < count; ++i) keys[(d + i) * 16] = halves[i];
  });
}

void store_value(const KvLayer& kv, int32_t page, int head, int slot, const float* x) {
  if (kv.format == KvFormat::Int8) return store_value_codes(kv.values(page, head), slot, x, kv.v_pad);
  auto* values = reinterpret_cast<uint16_t*>(kv.values(page, head)) + slot * kv.v_pad;
  by_sixteen(kv.v_dim, [&](int64_t d, int64_t count) __attribute__((always_inline)) {
    store_f16(values + d, within_half(load_first(x + d, count)));
  });
}

// Rotates a head by the Hadamard matrix, in place; one that is no multiple of 16 in `copy`, with zeros behind it.
// Returns where it lies then.
float* rotated_head(float* x, int size, float* copy) {
  const int whole = (size + 15) / 16 * 16;
  if (whole > size) {
    std::memcpy(copy, x, size * sizeof(float));
    std::memset(copy + size, 0, (whole - size) * sizeof(float));
    x = copy;
  }
  hadamard(x, whole, stored_factor(whole));
  return x;
}

void rope_kv_write_row(const RopeKvWriteOp& op, int64_t row, int head, int position, const int32_t* pages) {
  const KvLayer& kv = op.kv;
  const int64_t q_size = int64_t{op.num_heads} * kv.k_dim;
  const int64_t k_size = int64_t{kv.num_heads} * kv.k_dim;
  float* base = op.qkv + row * (q_size + k_size + int64_t{kv.num_heads} * kv.v_dim);
  const bool is_query = head < op.num_heads;
  float* x = base + int64_t{head} * kv.k_dim;
  const float* weight = is_query ? op.q_norm : op.k_norm;
  if (weight) norm_row(x, weight, op.eps, kv.k_dim, x);
  const float* table = op.table + 2 * row * op.pairs;
  if (op.interleaved) rope_head<true>(x, table, table + op.pairs, op.pairs);
  else rope_head<false>(x, table, table + op.pairs, op.pairs);
  if (is_query) return scale_head(x, kv.k_dim, query_scale(op, position));
  if (op.k_bias) subtract_low_frequency_bias(op, x, op.k_bias + int64_t{head - op.num_heads} * kv.k_dim);
  const int kv_head = head - op.num_heads;
  float* value = base + q_size + k_size + int64_t{kv_head} * kv.v_dim;
  alignas(64) float copies[2][kMaxHeadDim];
  if (kv.format == KvFormat::Int8) {
    x = rotated_head(x, kv.k_dim, copies[0]);
    value = rotated_head(value, kv.v_dim, copies[1]);
  }
  const int32_t page = pages[position / kPageTokens];
  store_key(kv, page, kv_head, position % kPageTokens, x);
  store_value(kv, page, kv_head, position % kPageTokens, value);
}

}  // namespace

void rope_kv_write(const RopeKvWriteOp& op, const Step& step, Worker worker) {
  const int heads = op.num_heads + op.kv.num_heads;
  const Range mine = share(int64_t{step.num_rows} * heads, worker);
  for (int s = 0; s < step.num_spans; ++s) {
    const Span& span = step.spans[s];
    const int64_t first = int64_t{span.first_row} * heads;
    const int64_t last = first + int64_t{span.num_rows} * heads;
    for (int64_t i = mine.begin > first ? mine.begin : first; i < mine.end && i < last; ++i) {
      const int64_t row = i / heads;
      const auto position = static_cast<int>(span.position + row - span.first_row);
      rope_kv_write_row(op, row, static_cast<int>(i % heads), position, span.pages[op.kv.group]);
    }
  }
}

}  // namespace tonnage::TONNAGE_ISA
