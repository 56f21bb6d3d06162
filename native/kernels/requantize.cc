// Panels of one format into checkpoint rows of another, 256 columns of sixteen rows at a time.
#include <algorithm>

#include "kernels/encode.h"
#include "kernels/formats.h"
#include "kernels/table.h"

namespace tonnage::TONNAGE_ISA {

namespace {

constexpr int kTileCols = 256;

// One block of group g, to [32 columns][16 rows]; rounded as a lookup of the panel rounds.
template <int g, class F> void decode_block(const F& super, int j, float* x) {
  unroll<8>([&](auto q) __attribute__((always_inline)) {
    constexpr int h = F::kHalves && q >= 4;
    const I32 codes = words(super.template code<g, q>(j));
    const F32 scale = super.template scale<g, h>(j);
    unroll<4>([&](auto i) __attribute__((always_inline)) {
      const I32 code = bit_and(shift_right(codes, 8 * i), 255);
      F32 value;
      if constexpr (F::kAffine) value = add(mul(scale, to_f32(code)), super.template offset<g, h>(j));
      else value = mul(scale, to_f32(add(code, set(int32_t{-128}))));
      store(x + 16 * (4 * q + i), value);
    });
  });
}

F32 load_float(Layout layout, const uint8_t* panel, int64_t i) {
  if (layout == Layout::F32) return load(reinterpret_cast<const float*>(panel) + i);
  return layout == Layout::F16 ? load_f16(halves(panel) + i) : load_bf16(halves(panel) + i);
}

// Columns begin to begin + count of a group's sixteen rows.
void decode_tile(Layout layout, const uint8_t* panel, int g, int64_t begin, int count, float* x) {
  if (is_float(layout)) {
    for (int c = 0; c < count; ++c) store(x + 16 * c, load_float(layout, panel, (begin + c) * kPanelRows + 16 * g));
    return;
  }
  with_quantized(layout, [&](auto l) {
    using F = Format<l>;
    for (int c = 0; c < count; c += kBlockCols) {
      const int64_t b = (begin + c) / kBlockCols;
      const F super(panel + b / F::kSuper * F::kBytes);
      const int j = static_cast<int>(b % F::kSuper);
      g == 0 ? decode_block<0>(super, j, x + 16 * c) : decode_block<1>(super, j, x + 16 * c);
    }
  });
}

// No format holds more: float16 times levels to 128 times codes to 32. Sums of squares stay finite below.
constexpr float kLargest = 0x1p28f;

// The first of `rows` rows that holds a value which is not finite or too large for any format, or -1.
int first_unheld(const float* x, int count, int rows) {
  F32 poison = zero_f(), largest = zero_f();  // poison: not a number where a value was not finite
  for (int c = 0; c < count; ++c) {
    const F32 v = load(x + 16 * c);
    poison = fma(v, zero_f(), poison);
    largest = max(largest, abs(v));
  }
  float poisoned[16], magnitude[16];
  store(poisoned, poison);
  store(magnitude, largest);
  for (int r = 0; r < rows; ++r)
    if (!(poisoned[r] == 0) || magnitude[r] > kLargest) return r;
  return -1;
}

// Fills the last block up with zeros and returns the tile's columns then.
int fill_block(Layout target, float* x, int count) {
  const auto whole = static_cast<int>(ceil_div(count, layout_shape(target).source_cols)) * layout_shape(target).source_cols;
  for (int c = count; c < whole; ++c) store(x + 16 * c, zero_f());
  return whole;
}

template <class W> int encode_tile(Layout target, const Tile& tile, int count, W weights) {
  const LayoutShape shape = layout_shape(target);
  for (int c = 0; c < count; c += shape.source_cols) {
    const Tile block = {tile.x + 16 * c, tile.rows, tile.out + c / shape.source_cols * shape.source_bytes, tile.stride};
    const int bad = shape.source_cols == kTileCols ? encode256(target, block, weights.from(c)) : encode32(target, block, weights.from(c));
    if (bad >= 0) return bad;
  }
  return -1;
}

// Encodes `count` columns from `begin` on, which are whole blocks where there is importance.
int encode(const Requantization& work, const Tile& tile, int64_t begin, int count) {
  if (!work.importance) return encode_tile(work.target, tile, count, Even{});
  return encode_tile(work.target, tile, count, Weighted{work.importance + begin});
}

}  // namespace

int64_t requantize(const Requantization& work, float* tile, uint8_t* out) {
  const int64_t stride = source_row_bytes(work.target, work.cols);
  const LayoutShape shape = layout_shape(work.target);
  for (int g = 0; 16 * g < work.rows; ++g) {
    const int rows = static_cast<int>(std::min<int64_t>(work.rows - 16 * g, 16));
    for (int64_t begin = 0; begin < work.cols; begin += kTileCols) {
      const int count = static_cast<int>(std::min<int64_t>(work.cols - begin, kTileCols));
      decode_tile(work.source, work.panel, g, begin, count, tile);
      uint8_t* to = out + 16 * g * stride + begin / shape.source_cols * shape.source_bytes;
      int bad = first_unheld(tile, count, rows);
      if (bad < 0) bad = encode(work, {tile, rows, to, stride}, begin, fill_block(work.target, tile, count));
      if (bad >= 0) return 16 * g + bad;
    }
  }
  return -1;
}

}  // namespace tonnage::TONNAGE_ISA
