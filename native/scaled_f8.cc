// E4M3: OCP 8-bit Floating Point Specification 1.0; 127 and 255 are no numbers.
#include "scaled_f8.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "tonnage/half.h"

namespace tonnage {

namespace {

constexpr int64_t kScaleBlock = 128;

int64_t blocks(int64_t n) { return (n + kScaleBlock - 1) / kScaleBlock; }

float e4m3(int code) {
  const int exponent = code >> 3 & 15, fraction = code & 7;
  float value = exponent ? std::ldexp(8.0f + static_cast<float>(fraction), exponent - 10) : std::ldexp(static_cast<float>(fraction), -9);
  if ((code & 127) == 127) value = NAN;
  return code & 128 ? -value : value;
}

std::array<uint16_t, 256> scaled_halves(float scale) {
  std::array<uint16_t, 256> table;
  for (int code = 0; code < 256; ++code) table[code] = float_to_half(e4m3(code) * scale);
  return table;
}

}  // namespace

bool TensorScales::fit() const { return count <= 1 || count == rows || count == blocks(rows) * blocks(cols); }

float TensorScales::at(int64_t row, int64_t col) const {
  if (count == 0) return 1;
  if (count == 1) return values[0];
  if (count == rows) return values[row];
  return values[row / kScaleBlock * blocks(cols) + col / kScaleBlock];
}

int64_t f8_to_half(const uint8_t* codes, int64_t first, int64_t count, const TensorScales& scales, uint16_t* out) {
  const int64_t cols = scales.cols;
  int64_t bad = count;
  for (int64_t begin = 0; begin < cols; begin += kScaleBlock) {
    const int64_t end = std::min(begin + kScaleBlock, cols);
    float scale = scales.at(first, begin);
    auto table = scaled_halves(scale);
    for (int64_t r = 0; r < count; ++r) {
      if (scales.at(first + r, begin) != scale) table = scaled_halves(scale = scales.at(first + r, begin));
      for (int64_t c = begin; c < end; ++c) {
        const uint16_t half = table[codes[r * cols + c]];
        out[r * cols + c] = half;
        if ((half & 0x7c00) == 0x7c00) bad = std::min(bad, r);
      }
    }
  }
  return bad < count ? first + bad : -1;
}

}  // namespace tonnage
