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
// to exactly the checkpoint's value, and only MXFP4 grows (its scales widen to bfloat16).
#pragma once

#include <cstdint>

// What several instruction sets include must not become a symbol that the linker merges between them.
#define TONNAGE_INLINE [[gnu::always_inline]] inline

namespace tonnage {

// The numbers are ggml's type ids.
enum class Layout : int32_t {
  F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8, Q2_K = 10, Q3_K = 11, Q4_K = 12,
  Q5_K = 13, Q6_K = 14, IQ4_NL = 20, IQ4_XS = 23, BF16 = 30, MXFP4 = 39,
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
  }
  return {0, 0, 0};
}

TONNAGE_INLINE constexpr bool is_float(Layout layout) {
  return layout == Layout::F32 || layout == Layout::F16 || layout == Layout::BF16;
}

TONNAGE_INLINE constexpr int64_t panel_bytes(Layout layout, int64_t cols) {
  const LayoutShape shape = layout_shape(layout);
  return cols / shape.source_cols * shape.panel_bytes;
}

TONNAGE_INLINE constexpr int64_t source_row_bytes(Layout layout, int64_t cols) {
  const LayoutShape shape = layout_shape(layout);
  return cols / shape.source_cols * shape.source_bytes;
}

}  // namespace tonnage
