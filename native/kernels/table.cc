#include "kernels/table.h"

#define TONNAGE_NAME_(isa) #isa
#define TONNAGE_NAME(isa) TONNAGE_NAME_(isa)

namespace tonnage::TONNAGE_ISA {

extern const Kernels kKernels;
const Kernels kKernels = {TONNAGE_NAME(TONNAGE_ISA), embed, rope_table, norm, matmul, gated, qk_norm, rope_kv_write,
                          attend, quantize, pool_hidden, pack, requantize, block_peak, block_weight};

}  // namespace tonnage::TONNAGE_ISA
