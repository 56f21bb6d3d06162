// Activations to int8 codes with one scale per 32, and the sums that zero points need.
#pragma once

#include "kernels/fold.h"
#include "kernels/row_ends.h"
#include "tonnage/ops.h"
#include "tonnage/vec.h"

namespace tonnage::TONNAGE_ISA {

// A block's scale and the factor that makes codes.
struct BlockScale {
  float scale;
  float inverse;

  // largest: magnitude in the block.
  static BlockScale of(float largest) {
    // Far below that the quotient would overflow; such activations are nothing beside any others.
    return {largest / 127.0f, largest > 1e-30f ? 127.0f / largest : 0.0f};
  }

  // Fills all of a block but its codes, whose sums are given.
  void describe(int32_t sum_lo, int32_t sum_hi, ActBlock& block) const {
    block.scale = scale;
    block.sum = static_cast<float>(sum_lo + sum_hi);
    block.zero = -128 * (sum_lo + sum_hi);
    block.zero_lo = -128 * sum_lo;
    block.zero_hi = -128 * sum_hi;
  }
};

// The clamp only meets values that are not finite.
inline I32 codes_of(F32 x, F32 inverse) { return round_i32(max(min(mul(x, inverse), set(127.0f)), set(-127.0f))); }

inline void quantize32(F32 lo, F32 hi, ActBlock& out) {
  const BlockScale block = BlockScale::of(reduce_max(max(abs(lo), abs(hi))));
  const I32 a = codes_of(lo, set(block.inverse));
  const I32 b = codes_of(hi, set(block.inverse));
  store_s8(out.codes, a);
  store_s8(out.codes + 16, b);
  int32_t sum_lo, sum_hi;
  reduce_add_both(a, b, &sum_lo, &sum_hi);
  block.describe(sum_lo, sum_hi, out);
}

// Sixteen blocks, which share the work across lanes. step: from a block to the next.
inline void quantize16(const float (&x)[16][kBlockCols], ActBlock* out, int64_t step) {
  F32 peaks[16];
  for (int i = 0; i < 16; ++i) peaks[i] = max(abs(load(x[i])), abs(load(x[i] + 16)));
  float largest[16];
  fold16_max(peaks, largest);
  BlockScale blocks[16];
  for (int i = 0; i < 16; ++i) blocks[i] = BlockScale::of(largest[i]);
  I32 lo[16], hi[16];
  for (int i = 0; i < 16; ++i) {
    const F32 inverse = set(blocks[i].inverse);
    lo[i] = codes_of(load(x[i]), inverse);
    hi[i] = codes_of(load(x[i] + 16), inverse);
    store_s8(out[i * step].codes, lo[i]);
    store_s8(out[i * step].codes + 16, hi[i]);
  }
  int32_t sum_lo[16], sum_hi[16];
  fold16_add(lo, sum_lo);
  fold16_add(hi, sum_hi);
  for (int i = 0; i < 16; ++i) blocks[i].describe(sum_lo[i], sum_hi[i], out[i * step]);
}

// Takes blocks of 32 activations, one after the other, and stores them in the forms that `out` has. Sixteen are
// quantized at once.
class ActWriter {
 public:
  // Blocks [block, ...) of one row.
  static ActWriter along(const Acts& out, int64_t row, int64_t block) {
    return {out, row, block, 1, kBlockCols};
  }
  // One block of rows 0, 1, ...
  static ActWriter down(const Acts& out, int64_t block) { return {out, 0, block, out.stride(), out.cols}; }

  void add(F32 lo, F32 hi) { add_first(lo, hi, kBlockCols); }

  // A block that its row ends within: `count` activations, zeros behind them.
  [[gnu::always_inline]] void add_first(F32 lo, F32 hi, int64_t count) {
    if (values_) {
      store_first(values_, lo, count);
      store_first(values_ + 16, hi, count - 16);
      values_ += values_step_;
    }
    if (!next_) return;
    store(waiting_[count_], lo);
    store(waiting_[count_] + 16, hi);
    if (++count_ < 16) return;
    quantize16(waiting_, next_, step_);
    next_ += 16 * step_;
    count_ = 0;
  }

  // Elements [begin, end) of a row: at(i, count) gives sixteen of them, zero from i + count on.
  template <class At>
  [[gnu::always_inline]] void add_row(int64_t begin, int64_t end, At&& at) {
    int64_t i = begin;
    for (; i + kBlockCols <= end; i += kBlockCols) add(at(i, int64_t{16}), at(i + 16, int64_t{16}));
    if (i < end) add_first(at(i, end - i), at(i + 16, end - i - 16), end - i);
  }

  // After the last block.
  void finish() {
    for (int i = 0; i < count_; ++i) quantize32(load(waiting_[i]), load(waiting_[i] + 16), next_[i * step_]);
  }

 private:
  ActWriter(const Acts& out, int64_t row, int64_t block, int64_t step, int64_t values_step)
      : next_(out.blocks ? out.blocks + row * out.stride() + block : nullptr),
        values_(out.values ? out.values + row * out.cols + block * kBlockCols : nullptr),
        step_(step), values_step_(values_step) {}

  alignas(64) float waiting_[16][kBlockCols];
  ActBlock* next_;
  float* values_;
  int64_t step_;
  int64_t values_step_;
  int count_ = 0;
};

}  // namespace tonnage::TONNAGE_ISA
