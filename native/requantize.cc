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

// Codes follow the scale as it is stored, so that rounding it to half costs as little as it can.
bool to_q8_0(const float* x, uint8_t* out) {
  float largest = 0, poison = 0;
  for (int i = 0; i < kBlock; ++i) {
    largest = std::max(largest, std::fabs(x[i]));
    poison += x[i] * 0;  // NaN where x is not finite
  }
  put_half(out, largest / 127);
  const float scale = get_half(out);
  const float inverse = scale > 0 ? 1 / scale : 0;
  for (int i = 0; i < kBlock; ++i) {
    const float code = std::min(std::max(x[i] * inverse, -127.0f), 127.0f);
    out[2 + i] = static_cast<uint8_t>(static_cast<int8_t>(code + std::copysign(0.5f, code)));
  }
  return poison == 0 && std::isfinite(scale);
}

struct Affine {
  float scale;
  float min;
};

// Eight sums side by side, which the compiler turns into vectors.
constexpr int kLanes = 8;
using Sums = float[kLanes];

float total(const Sums& sums) {
  float sum = 0;
  for (float part : sums) sum += part;
  return sum;
}

Affine as_stored(Affine fit) {
  return {half_to_float(float_to_half(fit.scale)), half_to_float(float_to_half(fit.min))};
}

float inverse_of(Affine fit) { return fit.scale > 0 ? 1 / fit.scale : 0; }

int code_of(float x, Affine fit, float inverse) {
  const float code = (x - fit.min) * inverse;
  return static_cast<int>(std::min(std::max(code, 0.0f), 15.0f) + 0.5f);
}

float squared_error(const float* x, Affine fit) {
  const float inverse = inverse_of(fit);
  Sums error = {};
  for (int i = 0; i < kBlock; i += kLanes)
    for (int l = 0; l < kLanes; ++l) {
      const float d = fit.scale * static_cast<float>(code_of(x[i + l], fit, inverse)) + fit.min - x[i + l];
      error[l] += d * d;
    }
  return total(error);
}

// Least squares of x against its codes under `fit`.
Affine refit(const float* x, Affine fit) {
  const float inverse = inverse_of(fit);
  Sums q = {}, qq = {}, sum = {}, qx = {};
  for (int i = 0; i < kBlock; i += kLanes)
    for (int l = 0; l < kLanes; ++l) {
      const auto code = static_cast<float>(code_of(x[i + l], fit, inverse));
      q[l] += code;
      qq[l] += code * code;
      sum[l] += x[i + l];
      qx[l] += code * x[i + l];
    }
  const float codes = total(q), squares = total(qq), values = total(sum), products = total(qx);
  const float det = kBlock * squares - codes * codes;
  if (det <= 0) return fit;
  return {(kBlock * products - codes * values) / det, (squares * values - codes * products) / det};
}

// Tries narrower ranges than min..max, each refitted by least squares, and keeps the one whose stored
// form has the smallest error; plain rounding is the first of them.
Affine best_fit(const float* x) {
  float low = x[0], high = x[0];
  for (int i = 1; i < kBlock; ++i) {
    low = std::min(low, x[i]);
    high = std::max(high, x[i]);
  }
  Affine best = as_stored({(high - low) / 15, low});
  float best_error = squared_error(x, best);
  for (int step = 0; step < 8; ++step) {
    const float cut = 0.02f * static_cast<float>(step) * (high - low);
    const Affine fit = as_stored(refit(x, {(high - low - 2 * cut) / 15, low + cut}));
    if (!(fit.scale > 0)) continue;
    const float error = squared_error(x, fit);
    if (error < best_error) {
      best = fit;
      best_error = error;
    }
  }
  return best;
}

bool to_q4_1(const float* x, uint8_t* out) {
  float poison = 0;
  for (int i = 0; i < kBlock; ++i) poison += x[i] * 0;
  if (poison != 0) return false;
  const Affine fit = best_fit(x);
  put_half(out, fit.scale);
  put_half(out + 2, fit.min);
  const float inverse = inverse_of(fit);
  for (int i = 0; i < kBlock / 2; ++i)
    out[4 + i] = static_cast<uint8_t>(code_of(x[i], fit, inverse) | code_of(x[i + kBlock / 2], fit, inverse) << 4);
  return std::isfinite(fit.scale) && std::isfinite(fit.min);
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
      const float* x = floats_.data() + b * kBlock;
      if (!(target_ == Layout::Q8_0 ? to_q8_0(x, out) : to_q4_1(x, out))) {
        bad_row_ = r;
        return nullptr;
      }
    }
  }
  return blocks_.data();
}

}  // namespace tonnage
