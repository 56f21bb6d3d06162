// Blocks of 32 columns. The fit is judged as it is stored: never worse than rounding to the plain range.
#include "kernels/encode.h"
#include "kernels/iq4.h"

namespace tonnage::TONNAGE_ISA {

namespace {

constexpr int kCols = 32;

// Calls write(row, codes, out) for every row. Returns the first row with a scale that is not finite, or -1.
template <class Write> int write_rows(const Tile& tile, const TileCodes<kCols>& codes, const Halves& a, const Halves& b,
                                      Write write) {
  for (int r = 0; r < tile.rows; ++r) {
    if (!a.finite(r) || !b.finite(r)) return r;
    uint8_t row[kCols];
    codes.row(r, row);
    write(r, row, tile.row(r));
  }
  return -1;
}

int encode_q8_0(const Tile& tile) {
  F32 largest = zero_f();
  for (int i = 0; i < kCols; ++i) largest = max(largest, abs(load(tile.x + 16 * i)));
  const Halves scale(div(largest, set(127.0f)));
  const F32 factor = inverse(load_f16(scale.at));
  TileCodes<kCols> codes;
  for (int i = 0; i < kCols; ++i)
    codes.put(i, round_within(mul(load(tile.x + 16 * i), factor), set(-127.0f), set(127.0f)));
  return write_rows(tile, codes, scale, scale, [&](int r, const uint8_t* row, uint8_t* out) {
    scale.put(r, out);
    std::memcpy(out + 2, row, kCols);
  });
}

void put_five(const uint8_t* row, uint8_t* out) {
  uint32_t fifth = 0;
  for (int i = 0; i < kCols; ++i) fifth |= static_cast<uint32_t>(row[i] >> 4 & 1) << i;
  std::memcpy(out, &fifth, 4);
  put_fields(row, kCols, 0, 4, 16, out + 4);
}

// Q4_0 and Q5_0: scale * (q - 2^(bits - 1)).
template <int bits, class W> int encode_symmetric(const Tile& tile, W weights) {
  constexpr float half = 1 << (bits - 1);
  const Codes range = {-half, half - 1, {-0.9f, bits == 4 ? 1.6f : 1.2f, 9}};
  const F32 plain = as_half(mul(extreme<kCols>(tile.x), set(-1 / half)));
  const F32 found = as_half(search_symmetric<kCols>(tile.x, weights, range));
  const F32 plain_gain = gain_of(plain, symmetric_moments<kCols>(tile.x, weights, inverse(plain), range));
  const F32 found_gain = gain_of(found, symmetric_moments<kCols>(tile.x, weights, inverse(found), range));
  const F32 scale = select_less(plain_gain, found_gain, found, plain);
  const F32 factor = inverse(scale);
  TileCodes<kCols> codes;
  for (int i = 0; i < kCols; ++i) {
    const F32 code = round_within(mul(load(tile.x + 16 * i), factor), set(range.lo), set(range.hi));
    codes.put(i, add(code, set(half)));
  }
  const Halves stored(scale);
  return write_rows(tile, codes, stored, stored, [&](int r, const uint8_t* row, uint8_t* out) {
    stored.put(r, out);
    bits == 5 ? put_five(row, out + 2) : put_fields(row, kCols, 0, 4, 16, out + 2);
  });
}

F32 affine_code(F32 x, Affine fit, F32 factor, float top) {
  return round_within(mul(sub(x, fit.offset), factor), zero_f(), set(top));
}

template <class W> F32 squared_error(const float* x, W weights, Affine fit, float top) {
  const F32 factor = inverse(fit.scale);
  F32 sum = zero_f();
  for (int i = 0; i < kCols; ++i) {
    const F32 v = load(x + 16 * i);
    const F32 miss = sub(v, fma(fit.scale, affine_code(v, fit, factor, top), fit.offset));
    sum = fma(miss, weights.times(i, miss), sum);
  }
  return sum;
}

Affine plain_range(const float* x, float top) {
  F32 low = load(x), high = load(x);
  for (int i = 1; i < kCols; ++i) {
    low = min(low, load(x + 16 * i));
    high = max(high, load(x + 16 * i));
  }
  return {as_half(div(sub(high, low), set(top))), as_half(low)};
}

// Q4_1 and Q5_1: scale * q + offset.
template <int bits, class W> int encode_affine(const Tile& tile, W weights) {
  constexpr float top = (1 << bits) - 1;
  Affine fit = plain_range(tile.x, top);
  const F32 plain_error = squared_error(tile.x, weights, fit, top);
  Affine found = search_affine<kCols>(tile.x, weights, {0, top, {-0.3f, bits == 4 ? 3.0f : 2.4f, 9}}, 3e38f);
  found = {as_half(found.scale), as_half(found.offset)};
  const F32 error = squared_error(tile.x, weights, found, top);
  fit.scale = select_less(error, plain_error, found.scale, fit.scale);
  fit.offset = select_less(error, plain_error, found.offset, fit.offset);
  const F32 factor = inverse(fit.scale);
  TileCodes<kCols> codes;
  for (int i = 0; i < kCols; ++i) codes.put(i, affine_code(load(tile.x + 16 * i), fit, factor, top));
  const Halves scale(fit.scale), offset(fit.offset);
  return write_rows(tile, codes, scale, offset, [&](int r, const uint8_t* row, uint8_t* out) {
    scale.put(r, out);
    offset.put(r, out + 2);
    bits == 5 ? put_five(row, out + 4) : put_fields(row, kCols, 0, 4, 16, out + 4);
  });
}

template <class W> int encode_iq4_nl(const Tile& tile, W weights) {
  const Halves scale(search_iq4(tile.x, weights, {105.0f, 150.0f, 6}));
  const F32 factor = inverse(load_f16(scale.at));
  TileCodes<kCols> codes;
  for (int i = 0; i < kCols; ++i) codes.put(i, iq4_index(mul(load(tile.x + 16 * i), factor)));
  return write_rows(tile, codes, scale, scale, [&](int r, const uint8_t* row, uint8_t* out) {
    scale.put(r, out);
    put_fields(row, kCols, 0, 4, 16, out + 2);
  });
}

}  // namespace

template <class W> int encode32(Layout target, const Tile& tile, W weights) {
  switch (target) {
    case Layout::Q4_0: return encode_symmetric<4>(tile, weights);
    case Layout::Q4_1: return encode_affine<4>(tile, weights);
    case Layout::Q5_0: return encode_symmetric<5>(tile, weights);
    case Layout::Q5_1: return encode_affine<5>(tile, weights);
    case Layout::IQ4_NL: return encode_iq4_nl(tile, weights);
    default: return encode_q8_0(tile);  // 255 steps need no search
  }
}

template int encode32(Layout, const Tile&, Even);
template int encode32(Layout, const Tile&, Weighted);

}  // namespace tonnage::TONNAGE_ISA
