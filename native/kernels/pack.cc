// From a checkpoint's rows of blocks to panels (layout.h). Block layouts: ggml's, as documented for GGUF.
#include <algorithm>

#include "kernels/pack.h"
#include "kernels/table.h"

namespace tonnage::TONNAGE_ISA {

namespace {

// Places sub-scale s as SixBits in formats.h reads it; s beyond 7 goes to the next set.
void put_six_bits(uint8_t* low, uint8_t* top, int s, int row, int value) {
  const int group = row / 16;
  low[16 * s + row % 16] |= static_cast<uint8_t>((value & 15) << 4 * group);
  top[64 * (s / 8) + 16 * (s % 4) + row % 16] |= static_cast<uint8_t>((value >> 4) << (4 * (s / 4 % 2) + 2 * group));
}

void add_fifth_bits(const uint8_t* bits, uint8_t* codes) {
  uint32_t word;
  std::memcpy(&word, bits, 4);
  for (int i = 0; i < 32; ++i) codes[i] |= static_cast<uint8_t>((word >> i & 1) << 4);
}

void pack_4bit(const Source& in, int64_t b, int bytes, int header, uint8_t* out) {
  Codes codes = {};
  for (int r = 0; r < in.rows; ++r) {
    const uint8_t* p = in.block(r, b, bytes);
    put_half(out, r, p);
    if (header == 4) put_half(out + 64, r, p + 2);
    split_nibbles(p + header, codes.at[r]);
  }
  write_nibbles(codes, out + 32 * header);
}

void pack_5bit(const Source& in, int64_t b, int bytes, int header, uint8_t* out) {
  Codes codes = {};
  for (int r = 0; r < in.rows; ++r) {
    const uint8_t* p = in.block(r, b, bytes);
    put_half(out, r, p);
    if (header == 4) put_half(out + 64, r, p + 2);
    split_nibbles(p + header + 4, codes.at[r]);
    add_fifth_bits(p + header, codes.at[r]);
  }
  uint8_t* planes = out + 32 * header;
  write_nibbles(codes, planes);
  write_one_bit<4>(codes, planes + 512);
}

void pack_q8_0(const Source& in, int64_t b, uint8_t* out) {
  Codes codes = {};
  for (int r = 0; r < in.rows; ++r) {
    const uint8_t* p = in.block(r, b, 34);
    put_half(out, r, p);
    for (int i = 0; i < 32; ++i) codes.at[r][i] = p[2 + i] ^ 0x80;
  }
  write_bytes(codes, out + 64);
}

void pack_mxfp4(const Source& in, int64_t b, uint8_t* out) {
  Codes codes = {};
  for (int r = 0; r < in.rows; ++r) {
    const uint8_t* p = in.block(r, b, 17);
    // 2^(e - 128) as bfloat16, for codes of twice the values; e = 0 and 1 are subnormal.
    const auto scale = static_cast<uint16_t>(p[0] > 1 ? (p[0] - 1) << 7 : p[0] == 1 ? 0x40 : 0x20);
    std::memcpy(out + 2 * r, &scale, 2);
    split_nibbles(p + 1, codes.at[r]);
  }
  write_nibbles(codes, out + 64);
}

void scale_min(const uint8_t* s, int j, int* scale, int* min) {
  *scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | s[j - 4] >> 6 << 4;
  *min = j < 4 ? s[j + 4] & 63 : s[j + 4] >> 4 | s[j] >> 6 << 4;
}

// Q4_K (five = false) and Q5_K.
template <bool five> void pack_scale_min(const Source& in, int64_t b, uint8_t* out) {
  constexpr int bytes = five ? 176 : 144;
  for (int r = 0; r < in.rows; ++r) {
    const uint8_t* p = in.block(r, b, bytes);
    put_half(out, r, p);
    put_half(out + 64, r, p + 2);
    for (int j = 0; j < 8; ++j) {
      int scale, min;
      scale_min(p + 4, j, &scale, &min);
      put_six_bits(out + 128, out + 256, j, r, scale);
      put_six_bits(out + 320, out + 448, j, r, min);
    }
  }
  for (int j = 0; j < 8; ++j) {
    Codes codes = {};
    for (int r = 0; r < in.rows; ++r) {
      const uint8_t* p = in.block(r, b, bytes);
      const uint8_t* q = p + (five ? 48 : 16) + 32 * (j / 2);
      for (int i = 0; i < 32; ++i) {
        codes.at[r][i] = static_cast<uint8_t>(q[i] >> 4 * (j & 1) & 15);
        if (five) codes.at[r][i] |= static_cast<uint8_t>((p[16 + i] >> j & 1) << 4);
      }
    }
    uint8_t* block = out + 512 + (five ? 640 : 512) * j;
    write_nibbles(codes, block);
    if (five) write_one_bit<4>(codes, block + 512);
  }
}

void pack_q6_k(const Source& in, int64_t b, uint8_t* out) {
  for (int r = 0; r < in.rows; ++r) {
    const uint8_t* p = in.block(r, b, 210);
    put_half(out, r, p + 208);
    for (int s = 0; s < 16; ++s) out[64 + 32 * s + r] = p[192 + s];
  }
  for (int j = 0; j < 8; ++j) {
    Codes codes = {};
    const int part = j % 4;
    for (int r = 0; r < in.rows; ++r) {
      const uint8_t* p = in.block(r, b, 210);
      const uint8_t* low = p + 64 * (j / 4) + 32 * (part & 1);
      const uint8_t* high = p + 128 + 32 * (j / 4);
      for (int i = 0; i < 32; ++i)
        codes.at[r][i] = static_cast<uint8_t>((low[i] >> 4 * (part >> 1) & 15) | (high[i] >> 2 * part & 3) << 4);
    }
    write_nibbles(codes, out + 576 + 768 * j);
    write_two_bits<4>(codes, out + 576 + 768 * j + 512);
  }
}

int q3_scale(const uint8_t* s, int k) {
  const int low = k < 8 ? s[k] & 15 : s[k - 8] >> 4;
  return low | (s[8 + (k & 3)] >> 2 * (k >> 2) & 3) << 4;
}

void pack_q3_k(const Source& in, int64_t b, uint8_t* out) {
  for (int r = 0; r < in.rows; ++r) {
    const uint8_t* p = in.block(r, b, 110);
    put_half(out, r, p + 108);
    for (int k = 0; k < 16; ++k) put_six_bits(out + 64, out + 320, k, r, q3_scale(p + 96, k));
  }
  for (int j = 0; j < 8; ++j) {
    Codes codes = {};
    for (int r = 0; r < in.rows; ++r) {
      const uint8_t* p = in.block(r, b, 110);
      const uint8_t* q = p + 32 + 32 * (j / 4);
      for (int i = 0; i < 32; ++i)
        codes.at[r][i] = static_cast<uint8_t>((q[i] >> 2 * (j % 4) & 3) | (p[i] >> j & 1) << 2);
    }
    write_two_bits<0>(codes, out + 448 + 384 * j);
    write_one_bit<2>(codes, out + 448 + 384 * j + 256);
  }
}

void pack_q2_k(const Source& in, int64_t b, uint8_t* out) {
  for (int r = 0; r < in.rows; ++r) {
    const uint8_t* p = in.block(r, b, 84);
    put_half(out, r, p + 80);
    put_half(out + 64, r, p + 82);
    for (int s = 0; s < 16; ++s) out[128 + 32 * s + r] = p[s];
  }
  for (int j = 0; j < 8; ++j) {
    Codes codes = {};
    for (int r = 0; r < in.rows; ++r) {
      const uint8_t* q = in.block(r, b, 84) + 16 + 32 * (j / 4);
      for (int i = 0; i < 32; ++i) codes.at[r][i] = static_cast<uint8_t>(q[i] >> 2 * (j % 4) & 3);
    }
    write_two_bits<0>(codes, out + 640 + 256 * j);
  }
}

void pack_iq4_xs(const Source& in, int64_t b, uint8_t* out) {
  for (int r = 0; r < in.rows; ++r) {
    const uint8_t* p = in.block(r, b, 136);
    put_half(out, r, p);
    const int high = p[2] | p[3] << 8;
    for (int j = 0; j < 8; ++j) {
      const int scale = (p[4 + j / 2] >> 4 * (j & 1) & 15) | (high >> 2 * j & 3) << 4;
      put_six_bits(out + 64, out + 192, j, r, scale);
    }
  }
  for (int j = 0; j < 8; ++j) {
    Codes codes = {};
    for (int r = 0; r < in.rows; ++r) split_nibbles(in.block(r, b, 136) + 8 + 16 * j, codes.at[r]);
    write_nibbles(codes, out + 256 + 512 * j);
  }
}

template <class T> void pack_float(const Source& in, int64_t cols, uint8_t* panel) {
  auto* out = reinterpret_cast<T*>(panel);
  for (int64_t begin = 0; begin < cols; begin += 32) {
    const int64_t end = std::min<int64_t>(begin + 32, cols);
    for (int64_t r = 0; r < in.rows; ++r)
      for (int64_t k = begin; k < end; ++k)
        std::memcpy(out + k * kPanelRows + r, in.data + r * in.row_bytes + k * static_cast<int64_t>(sizeof(T)), sizeof(T));
  }
}

void pack_doubles(const Source& in, int64_t cols, uint8_t* panel) {
  auto* out = reinterpret_cast<float*>(panel);
  for (int64_t r = 0; r < in.rows; ++r)
    for (int64_t k = 0; k < cols; ++k) {
      double wide;
      std::memcpy(&wide, in.data + r * in.row_bytes + 8 * k, 8);
      out[k * kPanelRows + r] = static_cast<float>(wide);
    }
}

void pack_block(Layout layout, const Source& in, int64_t b, uint8_t* out) {
  switch (layout) {
    case Layout::Q4_0:
    case Layout::IQ4_NL: return pack_4bit(in, b, 18, 2, out);
    case Layout::Q4_1: return pack_4bit(in, b, 20, 4, out);
    case Layout::Q5_0: return pack_5bit(in, b, 22, 2, out);
    case Layout::Q5_1: return pack_5bit(in, b, 24, 4, out);
    case Layout::Q8_0: return pack_q8_0(in, b, out);
    case Layout::MXFP4: return pack_mxfp4(in, b, out);
    case Layout::Q4_K: return pack_scale_min<false>(in, b, out);
    case Layout::Q5_K: return pack_scale_min<true>(in, b, out);
    case Layout::Q6_K: return pack_q6_k(in, b, out);
    case Layout::Q3_K: return pack_q3_k(in, b, out);
    case Layout::Q2_K: return pack_q2_k(in, b, out);
    case Layout::IQ4_XS: return pack_iq4_xs(in, b, out);
    default: return pack_few_bits(layout, in, b, out);
  }
}

}  // namespace

void pack(Layout layout, const uint8_t* source, int64_t rows, int64_t cols, uint8_t* panel) {
  const Source in = {source, rows, source_row_bytes(layout, cols)};
  std::memset(panel, 0, panel_bytes(layout, cols));
  if (layout == Layout::F64) return pack_doubles(in, cols, panel);
  if (layout == Layout::F32) return pack_float<uint32_t>(in, cols, panel);
  if (is_float(layout)) return pack_float<uint16_t>(in, cols, panel);
  const LayoutShape shape = layout_shape(layout);
  for (int64_t b = 0; b < ceil_div(cols, shape.source_cols); ++b) pack_block(layout, in, b, panel + b * shape.panel_bytes);
}

}  // namespace tonnage::TONNAGE_ISA
