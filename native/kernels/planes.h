// Codes out of the planes of layout.h, and what all readers of panels share.
#pragma once

#include <utility>

#include "tonnage/layout.h"
#include "tonnage/vec.h"

namespace tonnage::TONNAGE_ISA {

template <int n, class Fn>
[[gnu::always_inline]] inline void unroll(Fn&& fn) {
  [&]<int... i>(std::integer_sequence<int, i...>) __attribute__((always_inline)) {
    (fn(std::integral_constant<int, i>{}), ...);
  }(std::make_integer_sequence<int, n>{});
}

inline const uint16_t* halves(const uint8_t* p) { return reinterpret_cast<const uint16_t*>(p); }

// Four bits of quad q from a nibble plane, moved up by `up`.
template <int q, int up>
inline U8 nibble(const uint8_t* plane) {
  const U8 line = load_u8(plane + 64 * (q & 3));
  constexpr auto mask = static_cast<uint8_t>(0x0f << up);
  if constexpr (q < 4) return bytes_and(bytes_left<up>(line), mask);
  return bytes_and(bytes_right<4 - up>(line), mask);
}

// Two bits of quad q from a two-bit plane, at bits up and up + 1.
template <int q, int up>
inline U8 two_bits(const uint8_t* plane) {
  const U8 line = load_u8(plane + 64 * (q >> 2));
  constexpr auto mask = static_cast<uint8_t>(0x03 << up);
  constexpr int from = 2 * (q & 3);
  if constexpr (from <= up) return bytes_and(bytes_left<up - from>(line), mask);
  else return bytes_and(bytes_right<from - up>(line), mask);
}

// Bit q of a one-bit plane, at bit up.
template <int q, int up>
inline U8 one_bit(const uint8_t* plane) {
  const U8 line = load_u8(plane);
  constexpr auto mask = static_cast<uint8_t>(1 << up);
  if constexpr (q <= up) return bytes_and(bytes_left<up - q>(line), mask);
  else return bytes_and(bytes_right<q - up>(line), mask);
}

}  // namespace tonnage::TONNAGE_ISA
