// Layouts: block_iq1_s to block_iq3_s of ggml-common.h (ggml-org/llama.cpp).
#include "grid_blocks.h"

#include <cstring>

#include "grids.h"

namespace tonnage {

namespace {

uint16_t u16_at(const uint8_t* p) { return static_cast<uint16_t>(p[0] | p[1] << 8); }
uint32_t u32_at(const uint8_t* p) { return static_cast<uint32_t>(u16_at(p)) | static_cast<uint32_t>(u16_at(p + 2)) << 16; }

// Eight signs of seven stored ones: an even number of them is negative.
uint32_t even_signs(uint32_t seven) { return seven | static_cast<uint32_t>(__builtin_parity(seven)) << 7; }

// Eight codes: levels of a row of two bits each, with bit 2 from `tops`.
void put_eight(uint32_t levels, uint32_t tops, uint8_t* codes) {
  for (int i = 0; i < 8; ++i) codes[i] = static_cast<uint8_t>((levels >> 2 * i & 3) | (tops >> i & 1) << 2);
}

// Four codes: levels of three bits each, with bit 3 from `tops`.
void put_four(uint32_t levels, uint32_t tops, uint8_t* codes) {
  for (int i = 0; i < 4; ++i) codes[i] = static_cast<uint8_t>((levels >> 3 * i & 7) | (tops >> i & 1) << 3);
}

void split_scales(const uint8_t* nibbles, int count, uint8_t* scales) {
  for (int i = 0; i < count; ++i) scales[i] = nibbles[i / 2] >> 4 * (i & 1) & 15;
}

// In 32 columns: four numbers of rows, then four times seven signs and a scale.
void read_iq2_xxs(const uint8_t* p, GridBlock* out) {
  for (int b = 0; b < 8; ++b) {
    const uint8_t* rows = p + 2 + 8 * b;
    const uint32_t signs = u32_at(rows + 4);
    out->scales[2 * b] = out->scales[2 * b + 1] = static_cast<uint8_t>(signs >> 28);
    for (int i = 0; i < 4; ++i)
      put_eight(kGridIq2Xxs[rows[i]], even_signs(signs >> 7 * i & 127), out->codes + 32 * b + 8 * i);
  }
}

void read_iq2_xs(const uint8_t* p, GridBlock* out) {
  split_scales(p + 66, 16, out->scales);
  for (int i = 0; i < 32; ++i) {
    const uint32_t word = u16_at(p + 2 + 2 * i);
    put_eight(kGridIq2Xs[word & 511], even_signs(word >> 9), out->codes + 8 * i);
  }
}

void read_iq2_s(const uint8_t* p, GridBlock* out) {
  split_scales(p + 74, 16, out->scales);
  for (int i = 0; i < 32; ++i) {
    const int high = p[66 + i / 4] >> 2 * (i % 4) & 3;
    put_eight(kGridIq2S[p[2 + i] | high << 8], p[34 + i], out->codes + 8 * i);
  }
}

void read_iq3_xxs(const uint8_t* p, GridBlock* out) {
  for (int b = 0; b < 8; ++b) {
    const uint32_t word = u32_at(p + 66 + 4 * b);
    out->scales[b] = static_cast<uint8_t>(word >> 28);
    for (int i = 0; i < 8; ++i) {
      const uint32_t signs = even_signs(word >> 7 * (i / 2) & 127);
      put_four(kGridIq3Xxs[p[2 + 8 * b + i]], signs >> 4 * (i & 1), out->codes + 32 * b + 4 * i);
    }
  }
}

void read_iq3_s(const uint8_t* p, GridBlock* out) {
  split_scales(p + 106, 8, out->scales);
  for (int i = 0; i < 64; ++i) {
    const int high = p[66 + i / 8] >> i % 8 & 1;
    put_four(kGridIq3S[p[2 + i] | high << 8], static_cast<uint32_t>(p[74 + i / 2]) >> 4 * (i & 1), out->codes + 4 * i);
  }
}

void read_iq1_s(const uint8_t* p, GridBlock* out) {
  for (int i = 0; i < 32; ++i) {
    const uint32_t word = u16_at(p + 34 + 2 * (i / 4));
    out->scales[i / 2] = static_cast<uint8_t>(word >> 12 & 7);
    put_eight(kGridIq1[p[2 + i] | (word >> 3 * (i % 4) & 7) << 8], word >> 15 ? 255 : 0, out->codes + 8 * i);
  }
}

// The scale of the block lies in the upper nibbles of four words, below them sixteen scales of three bits.
void read_iq1_m(const uint8_t* p, GridBlock* out) {
  out->d = 0;
  for (int w = 0; w < 4; ++w) {
    const int word = u16_at(p + 48 + 2 * w);
    out->d = static_cast<uint16_t>(out->d | (word >> 12) << 4 * w);
    for (int s = 0; s < 4; ++s) out->scales[4 * w + s] = static_cast<uint8_t>(word >> 3 * s & 7);
  }
  for (int i = 0; i < 32; ++i) {
    const int high = p[32 + i / 2] >> 4 * (i & 1);
    put_eight(kGridIq1[p[i] | (high & 7) << 8], high & 8 ? 255 : 0, out->codes + 8 * i);
  }
}

}  // namespace

void read_grid_block(Layout layout, const uint8_t* block, GridBlock* out) {
  out->d = u16_at(block);
  switch (layout) {
    case Layout::IQ1_S: return read_iq1_s(block, out);
    case Layout::IQ1_M: return read_iq1_m(block, out);
    case Layout::IQ2_XXS: return read_iq2_xxs(block, out);
    case Layout::IQ2_XS: return read_iq2_xs(block, out);
    case Layout::IQ2_S: return read_iq2_s(block, out);
    case Layout::IQ3_XXS: return read_iq3_xxs(block, out);
    default: return read_iq3_s(block, out);
  }
}

}  // namespace tonnage
