// The code books of the IQ formats: rows of eight or four levels that a block names by number.
#pragma once

#include <cstdint>

namespace tonnage {

// Eight levels of 0 to 2 each, level i in bits 2 i and 2 i + 1.
extern const uint16_t kGridIq2Xxs[256];
extern const uint16_t kGridIq2Xs[512];
extern const uint16_t kGridIq2S[1024];
extern const uint16_t kGridIq1[2048];  // IQ1_S and IQ1_M
// Four levels of 0 to 7 each, level i in bits 3 i to 3 i + 2.
extern const uint16_t kGridIq3Xxs[256];
extern const uint16_t kGridIq3S[512];

}  // namespace tonnage
