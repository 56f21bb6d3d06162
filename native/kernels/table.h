// The kernels of one instruction set, gathered in table.cc.
#pragma once

#include "tonnage/ops.h"

namespace tonnage::TONNAGE_ISA {

struct Range {
  int64_t begin, end;
};

// The part of 0..count-1 that is the worker's.
inline Range share(int64_t count, Worker worker) {
  return {count * worker.index / worker.count, count * (worker.index + 1) / worker.count};
}

void embed(const EmbedOp&, const Step&, Worker);
void rope_table(const RopeTableOp&, const Step&, Worker);
void norm(const NormOp&, const Step&, Worker);
void matmul(const MatmulOp&, const Step&, Worker);
void gated(const GatedOp&, const Step&, Worker);
void qk_norm(const QkNormOp&, const Step&, Worker);
void rope_kv_write(const RopeKvWriteOp&, const Step&, Worker);
void attend(const AttendOp&, const Step&, Worker);
void quantize(const QuantizeOp&, const Step&, Worker);
void pool_hidden(const PoolHiddenOp&, const Step&, Worker);
void pack(Layout, const uint8_t* source, int64_t rows, int64_t cols, uint8_t* panel);
bool block_peak(const float* logits, int64_t n, float* peak);
double block_weight(const float* logits, int64_t n, float peak, float temperature);
int64_t requantize(const Requantization&, float* tile, uint8_t* out);

}  // namespace tonnage::TONNAGE_ISA
