// Blocks of the IQ formats, whose levels lie in code books, with their codes spelled out.
#pragma once

#include <cstdint>

#include "tonnage/layout.h"

namespace tonnage {

// A block of 256 columns. A weight is d (2 scale + 1) times what its code stands for (kernels/few_bits.h).
struct GridBlock {
  uint16_t d;           // float16
  uint8_t scales[16];   // 0..15: one per 16 columns, or of IQ3_XXS and IQ3_S the first eight, one per 32
  uint8_t codes[256];   // level, and above its bits a sign (IQ2, IQ3) or which way levels are shifted (IQ1)
};

// Spells out a block of IQ1_S, IQ1_M, IQ2_XXS, IQ2_XS, IQ2_S, IQ3_XXS or IQ3_S. Any bytes are a block.
void read_grid_block(Layout layout, const uint8_t* block, GridBlock* out);

}  // namespace tonnage
