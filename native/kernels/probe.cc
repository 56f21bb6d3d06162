// What this machine can do at best: bytes read per second, and multiply-adds per second in registers.
#include "probe.h"

#if defined(TONNAGE_VECTORS_avx2) || defined(TONNAGE_VECTORS_avx512)
#include <immintrin.h>
#endif
#include <cstring>
#include <utility>

namespace tonnage::TONNAGE_ISA {
namespace {

constexpr size_t kStreams = 4;
constexpr size_t kLine = 64;

#if defined(TONNAGE_VECTORS_avx512)

// Independent chains hide the latency of a multiply-add (4 to 5 cycles, 2 started per cycle).
constexpr size_t kChains = 14;

using Line = __m512i;
inline Line zero() { return _mm512_setzero_si512(); }
inline Line fold(Line sum, const uint8_t* p) { return _mm512_xor_si512(sum, _mm512_loadu_si512(p)); }

// The empty asm hides a value from the optimizer, which would otherwise see equal chains and keep one.
template <typename T>
inline void hide(T& value) {
  asm volatile("" : "+v"(value));
}

struct Int8 {
  using Acc = __m512i;
  static constexpr uint64_t kOps = 2 * 64;
  static Acc start(int i) { return _mm512_set1_epi32(i); }
  static Acc step(Acc acc, Acc a, Acc b) { return _mm512_dpbusd_epi32(acc, a, b); }
};

struct F32 {
  using Acc = __m512;
  static constexpr uint64_t kOps = 2 * 16;
  static Acc start(int i) { return _mm512_set1_ps(static_cast<float>(i) * 0x1p-10f); }
  static Acc step(Acc acc, Acc a, Acc b) { return _mm512_fmadd_ps(a, b, acc); }
};

#elif defined(TONNAGE_VECTORS_avx2)

constexpr size_t kChains = 10;  // what 16 registers hold beside the operands

struct Line {
  __m256i low, high;
};
inline Line zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline Line fold(Line sum, const uint8_t* p) {
  const auto* v = reinterpret_cast<const __m256i*>(p);
  return {_mm256_xor_si256(sum.low, _mm256_loadu_si256(v)), _mm256_xor_si256(sum.high, _mm256_loadu_si256(v + 1))};
}

template <typename T>
inline void hide(T& value) {
  asm volatile("" : "+x"(value));
}

struct Int8 {
  using Acc = __m256i;
  static constexpr uint64_t kOps = 2 * 32;
  static Acc start(int i) { return _mm256_set1_epi32(i); }
  static Acc step(Acc acc, Acc a, Acc b) {
    Acc pairs;  // volatile: each chain multiplies anew, as a dot product over memory must
    asm volatile("vpmaddubsw %2, %1, %0" : "=x"(pairs) : "x"(a), "x"(b));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
};

struct F32 {
  using Acc = __m256;
  static constexpr uint64_t kOps = 2 * 8;
  static Acc start(int i) { return _mm256_set1_ps(static_cast<float>(i) * 0x1p-10f); }
  static Acc step(Acc acc, Acc a, Acc b) { return _mm256_fmadd_ps(a, b, acc); }
};

#else

struct Line {
  uint64_t word[8];
};
inline Line zero() { return {}; }
inline Line fold(Line sum, const uint8_t* p) {
  uint64_t word[8];
  std::memcpy(word, p, sizeof word);
  for (int i = 0; i < 8; ++i) sum.word[i] ^= word[i];
  return sum;
}

#endif

#if defined(TONNAGE_VECTORS_avx512) || defined(TONNAGE_VECTORS_avx2)

// Constant indices let the compiler keep each chain in its own register.
template <typename Kind, size_t... I>
uint64_t burn_chains(uint64_t rounds, std::index_sequence<I...>) {
  using Acc = typename Kind::Acc;
  Acc acc[] = {Kind::start(I)...};
  Acc a = Kind::start(1), b = Kind::start(2);
  hide(a);
  hide(b);
  for (uint64_t r = 0; r < rounds; ++r) {
    ((acc[I] = Kind::step(acc[I], a, b)), ...);
    (hide(acc[I]), ...);
  }
  uint64_t words[sizeof acc / 8], sum = 0;
  std::memcpy(words, acc, sizeof acc);
  for (uint64_t word : words) sum ^= word;
  return sum;
}

template <typename Kind>
uint64_t burn(uint64_t rounds) {
  return burn_chains<Kind>(rounds, std::make_index_sequence<kChains>());
}

constexpr uint64_t kInt8Ops = Int8::kOps * kChains;
constexpr uint64_t kF32Ops = F32::kOps * kChains;
constexpr Burn burn_int8 = burn<Int8>, burn_f32 = burn<F32>;

#else

// Plain code over arrays that stay in the first cache, as any compiler makes it for the base instruction set.
constexpr int kElems = 1024;

template <typename T>
inline void hide(T* data) {
  asm volatile("" : : "r"(data) : "memory");
}

uint64_t burn_int8(uint64_t rounds) {
  uint8_t a[kElems];
  int8_t b[kElems];
  for (int i = 0; i < kElems; ++i) a[i] = static_cast<uint8_t>(i), b[i] = static_cast<int8_t>(i * 7);
  uint64_t total = 0;
  for (uint64_t r = 0; r < rounds; ++r) {
    hide(a);
    hide(b);
    int32_t sum = 0;
    for (int i = 0; i < kElems; ++i) sum += int32_t{a[i]} * int32_t{b[i]};
    total += static_cast<uint32_t>(sum);
  }
  return total;
}

// 32 separate sums: eight vectors of the base instruction set, enough to hide the latency of an addition.
uint64_t burn_f32(uint64_t rounds) {
  constexpr int kSums = 32;
  float a[kElems], sum[kSums] = {};
  for (int i = 0; i < kElems; ++i) a[i] = static_cast<float>(i);
  for (uint64_t r = 0; r < rounds; ++r) {
    hide(a);
    for (int i = 0; i < kElems; i += kSums)
      for (int j = 0; j < kSums; ++j) sum[j] += a[i + j] * 0x1p-10f;
  }
  hide(sum);
  uint32_t word;
  std::memcpy(&word, sum, sizeof word);
  return word;
}

constexpr uint64_t kInt8Ops = 2 * kElems, kF32Ops = 2 * kElems;

#endif

uint64_t read_stream(const uint8_t* data, size_t bytes) {
  const size_t stride = bytes / kStreams;
  Line sum[kStreams] = {zero(), zero(), zero(), zero()};
  for (size_t at = 0; at < stride; at += kLine) {
#pragma GCC unroll 4
    for (size_t s = 0; s < kStreams; ++s) sum[s] = fold(sum[s], data + s * stride + at);
  }
  uint64_t words[kLine / 8], total = 0;
  for (const Line& line : sum) {
    std::memcpy(words, &line, sizeof words);
    for (uint64_t word : words) total ^= word;
  }
  return total;
}

}  // namespace

extern const ProbeKernels kProbeKernels;
const ProbeKernels kProbeKernels{read_stream, burn_int8, burn_f32, kInt8Ops, kF32Ops};

}  // namespace tonnage::TONNAGE_ISA
