#include "tonnage/requantize.h"

#include <algorithm>
#include <cmath>

#include "tonnage/half.h"

namespace tonnage {

namespace {

constexpr int kBlock = 32;

void put_half(uint8_t* p, float x) {
  const uint16_t half = float_to_half(x);
  std::memcpy(p, &half, 2);
}

float get_half(const uint8_t* p) {
  uint16_t half;
  std::memcpy(&half, p, 2);
  return half_to_float(half);
}

void to_q8_0(const float* x, uint8_t* out) {
  float largest = 0;
  for (int i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float scale = largest / 127;
  put_half(out, scale);
  const float inverse = scale > 0 ? 1 / scale : 0;
  for (int i = 0; i < kBlock; ++i) out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(std::lround(x[i] * inverse)));
}

struct Affine {
  float scale;
  float min;
};

int code_of(float x, Affine fit) {
  return fit.scale > 0 ? std::clamp(static_cast<int>(std::lround((x - fit.min) / fit.scale)), 0, 15) : 0;
}

float squared_error(const float* x, Affine fit) {
  float error = 0;
  for (int i = 0; i < kBlock; ++i) {
    const float d = fit.scale * static_cast<float>(code_of(x[i], fit)) + fit.min - x[i];
    error += d * d;
  }
  return error;
}

// Least squares of x against its codes under `fit`.
Affine refit(const float* x, Affine fit) {
  float q = 0, qq = 0, sum = 0, qx = 0;
  for (int i = 0; i < kBlock; ++i) {
    const auto code = static_cast<float>(code_of(x[i], fit));
    q += code;
    qq += code * code;
    sum += x[i];
    qx += code * x[i];
  }
  const float det = kBlock * qq - q * q;
  if (det <= 0) return fit;
  return {(kBlock * qx - q * sum) / det, (qq * sum - q * qx) / det};
}

// Tries narrower ranges than min..max, each refitted by least squares, and keeps the smallest error.
Affine best_fit(const float* x) {
  const auto [low, high] = std::minmax_element(x, x + kBlock);
  const Affine full = {(*high - *low) / 15, *low};
  Affine best = full;
  float best_error = squared_error(x, full);
  for (int step = 0; step < 8; ++step) {
    const float cut = 0.02f * static_cast<float>(step) * (*high - *low);
    const Affine fit = refit(x, {(*high - *low - 2 * cut) / 15, *low + cut});
    const float error = fit.scale > 0 ? squared_error(x, fit) : best_error;
    if (error < best_error) {
      best = fit;
      best_error = error;
    }
  }
  return best;
}

void to_q4_1(const float* x, uint8_t* out) {
  const Affine fit = best_fit(x);
  put_half(out, fit.scale);
  put_half(out + 2, fit.min);
  const Affine stored = {get_half(out), get_half(out + 2)};
  for (int i = 0; i < kBlock / 2; ++i)
    out[4 + i] = static_cast<uint8_t>(code_of(x[i], stored) | code_of(x[i + kBlock / 2], stored) << 4);
}

float widen(Layout source, const uint8_t* row, int64_t i) {
  if (source == Layout::F32) {
    float x;
    std::memcpy(&x, row + 4 * i, 4);
    return x;
  }
  uint16_t half;
  std::memcpy(&half, row + 2 * i, 2);
  return source == Layout::F16 ? half_to_float(half) : bfloat_to_float(half);
}

}  // namespace

Requantizer::Requantizer(Layout source, Layout target, int64_t cols) : source_(source), target_(target), cols_(cols) {
  if (source == target) return;
  floats_.resize(static_cast<size_t>(cols));
  blocks_.resize(static_cast<size_t>(kPanelRows * source_row_bytes(target, cols)));
}

bool Requantizer::can(Layout source, Layout target) {
  return source == target || (is_float(source) && (target == Layout::Q8_0 || target == Layout::Q4_1));
}

const uint8_t* Requantizer::convert(const uint8_t* rows, int64_t count) {
  if (source_ == target_) return rows;
  const int64_t in_bytes = source_row_bytes(source_, cols_);
  const int64_t out_bytes = source_row_bytes(target_, cols_);
  const int block_bytes = layout_shape(target_).source_bytes;
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t i = 0; i < cols_; ++i) floats_[i] = widen(source_, rows + r * in_bytes, i);
    for (int64_t b = 0; b < cols_ / kBlock; ++b) {
      uint8_t* out = blocks_.data() + r * out_bytes + b * block_bytes;
      if (target_ == Layout::Q8_0) to_q8_0(floats_.data() + b * kBlock, out);
      else to_q4_1(floats_.data() + b * kBlock, out);
    }
  }
  return blocks_.data();
}

}  // namespace tonnage
