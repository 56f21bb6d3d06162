// The measuring kernels, which kernels/probe.cc defines once per instruction set.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tonnage {

// Reads `bytes` (a multiple of 4096) at `data` once, front to back in several streams. The result depends on
// every byte, so that no load can be left out.
using ReadStream = uint64_t (*)(const uint8_t* data, size_t bytes);

// Runs `rounds` rounds of independent multiply-add chains in registers; the result keeps them alive.
using Burn = uint64_t (*)(uint64_t rounds);

struct ProbeKernels {
  ReadStream read_stream;
  Burn burn_int8;
  Burn burn_f32;
  uint64_t int8_ops_per_round;  // one multiply-accumulate is two operations
  uint64_t f32_ops_per_round;
};

}  // namespace tonnage
