// How weights lie in memory: panels of 32 rows, cut into blocks of 32 columns.
//
// A panel holds two groups of 16 rows. Bits of a code live in planes of 4, 2 and 1 bits; in each plane
// a 64-byte line holds, at byte 4r + i, bits of row r of the group and of columns 4l + i, so one line
// feeds sixteen rows of a four-byte dot product. Per block and group, with q = column / 4 in 0..7:
//   nibble plane  4 lines: line l = quad l in the low half, quad l + 4 in the high half
//   two-bit plane 2 lines: line v = quads 4v..4v+3, two bits each
//   one-bit plane 1 line:  bit q = quad q
//   byte plane    8 lines: line q = quad q
// Formats with super-blocks of 256 columns put a header before their eight blocks. Every weight decodes
// to exactly the checkpoint's value. Where loading quantizes a row that ends within a block of 32, zeros fill that block
// up; floats end with their row. Panels grow where the file names rows of a code book, whose codes are spelled
// out (IQ1, IQ2, IQ3), where five codes share a byte (TQ1_0), and by wider scales (MXFP4, NVFP4).
#pragma once

#include <cstdint>

// What several instruction sets include must not become a symbol that the linker merges between them.
#define TONNAGE_INLINE [[gnu::always_inline]] inline

namespace tonnage {

// The numbers are ggml's type ids; from 1,000 on they are of formats that ggml lacks.
enum class Layout : int32_t {
  F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12,
  Q5_K = 13, Q6_K = 14, IQ2_XXS = 16, IQ2_XS = 17, IQ3_XXS = 18, IQ1_S = 19, IQ4_NL = 20, IQ3_S = 21, IQ2_S = 22,
  IQ4_XS = 23, F64 = 28, IQ1_M = 29, BF16 = 30, TQ1_0 = 34, TQ2_0 = 35, MXFP4 = 39, NVFP4 = 40, Q1_0 = 41, Q2_0 = 42,
  F8_E4M3 = 1000,
};

constexpr int kPanelRows = 32;
constexpr int kBlockCols = 32;

struct LayoutShape {
  int source_cols;   // columns of one block in the checkpoint
  int source_bytes;  // bytes of one block of one row in the checkpoint
  int panel_bytes;   // bytes of the same block of 32 rows in a panel
};

// Returns {0, 0, 0} for an unknown layout.
TONNAGE_INLINE constexpr LayoutShape layout_shape(Layout layout) {
  switch (layout) {
    case Layout::F8_E4M3: return {1, 1, 64};
    case Layout::F64: return {1, 8, 128};
    case Layout::F32: return {1, 4, 128};
    case Layout::F16: return {1, 2, 64};
    case Layout::BF16: return {1, 2, 64};
    case Layout::Q4_0: return {32, 18, 576};
    case Layout::Q4_1: return {32, 20, 640};
    case Layout::Q5_0: return {32, 22, 704};
    case Layout::Q5_1: return {32, 24, 768};
    case Layout::Q8_0: return {32, 34, 1088};
    case Layout::IQ4_NL: return {32, 18, 576};
    case Layout::MXFP4: return {32, 17, 576};
    case Layout::Q2_K: return {256, 84, 2688};
    case Layout::Q3_K: return {256, 110, 3520};
    case Layout::Q4_K: return {256, 144, 4608};
    case Layout::Q5_K: return {256, 176, 5632};
    case Layout::Q6_K: return {256, 210, 6720};
    case Layout::IQ4_XS: return {256, 136, 4352};
    case Layout::IQ1_S: return {256, 50, 3392};
    case Layout::IQ1_M: return {256, 56, 3392};
    case Layout::IQ2_XXS: return {256, 66, 3392};
    case Layout::IQ2_XS: return {256, 74, 3392};
    case Layout::IQ2_S: return {256, 82, 3392};
    case Layout::IQ3_XXS: return {256, 98, 4288};
    case Layout::IQ3_S: return {256, 110, 4288};
    case Layout::TQ1_0: return {256, 54, 2112};
    case Layout::TQ2_0: return {256, 66, 2112};
    case Layout::NVFP4: return {64, 36, 1216};
    case Layout::Q1_0: return {128, 18, 576};
    case Layout::Q2_0: return {64, 18, 576};
  }
  return {0, 0, 0};
}

// The layout whose panels those of `layout` are: several formats of files have codes and scales of one kind.
TONNAGE_INLINE constexpr Layout panel_layout(Layout layout) {
  switch (layout) {
    case Layout::F64: return Layout::F32;
    case Layout::F8_E4M3: return Layout::F16;
    case Layout::IQ1_S: return Layout::IQ1_M;
    case Layout::IQ2_XXS:
    case Layout::IQ2_XS: return Layout::IQ2_S;
    case Layout::TQ1_0: return Layout::TQ2_0;
    default: return layout;
  }
}

TONNAGE_INLINE constexpr bool is_float(Layout layout) {
  return layout == Layout::F32 || layout == Layout::F16 || layout == Layout::BF16;
}

// Whose values mean little without scales that lie beside the tensor.
TONNAGE_INLINE constexpr bool is_scaled(Layout layout) { return layout == Layout::F8_E4M3 || layout == Layout::NVFP4; }

TONNAGE_INLINE constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

TONNAGE_INLINE constexpr int64_t panel_bytes(Layout layout, int64_t cols) {
  const LayoutShape shape = layout_shape(layout);
  return ceil_div(cols, shape.source_cols) * shape.panel_bytes;
}

TONNAGE_INLINE constexpr int64_t source_row_bytes(Layout layout, int64_t cols) {
  const LayoutShape shape = layout_shape(layout);
  return ceil_div(cols, shape.source_cols) * shape.source_bytes;
}

}  // namespace tonnage
