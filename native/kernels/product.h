// One panel of 32 weight rows times R activation rows.
#pragma once

#include "kernels/formats.h"
#include "tonnage/ops.h"

namespace tonnage::TONNAGE_ISA {

// Activation rows from one column block on.
struct ActCursor {
  const ActBlock* blocks;
  int64_t stride;

  const ActBlock& operator[](int64_t row) const { return blocks[row * stride]; }
  ActCursor at_block(int64_t b) const { return {blocks + b, stride}; }

  static ActCursor at(const Acts& acts, int64_t row, int64_t block) {
    return {acts.blocks + row * acts.stride() + block, acts.stride()};
  }
};

// The sums of how many activation rows the registers hold.
template <class F>
constexpr int kInRegisters = !kManyRegisters ? 2 : F::kHalves ? 5 : 6;

// Running sums of a tile, in registers.
template <int columns>
struct RegisterSums {
  F32 sums[2][columns];
  [[gnu::always_inline]] RegisterSums(const float* out, bool first) {
    unroll<columns>([&](auto c) __attribute__((always_inline)) {
      sums[0][c] = first ? zero_f() : load(out + 32 * c);
      sums[1][c] = first ? zero_f() : load(out + 32 * c + 16);
    });
  }
  [[gnu::always_inline]] F32 get(int g, int c) const { return sums[g][c]; }
  [[gnu::always_inline]] void put(int g, int c, F32 x) { sums[g][c] = x; }
  [[gnu::always_inline]] void finish(float* out) const {
    unroll<columns>([&](auto c) __attribute__((always_inline)) {
      store(out + 32 * c, sums[0][c]);
      store(out + 32 * c + 16, sums[1][c]);
    });
  }
};

// The same in memory.
template <int columns>
struct MemorySums {
  float* out;
  [[gnu::always_inline]] MemorySums(float* place, bool first) : out(place) {
    if (first) unroll<2 * columns>([&](auto i) __attribute__((always_inline)) { store(place + 16 * i, zero_f()); });
  }
  [[gnu::always_inline]] F32 get(int g, int c) const { return load(out + 32 * c + 16 * g); }
  [[gnu::always_inline]] void put(int g, int c, F32 x) { store(out + 32 * c + 16 * g, x); }
  [[gnu::always_inline]] void finish(float*) const {}
};

// Adds block j of `super` to acc[group][column]. Each element is one chain of fused multiply-adds in block
// order, whatever `columns` is: that makes batches and chunks bit-identical to single rows. Integer sums of
// both groups are kept at once, so that one broadcast feeds two products. With `keep` the codes are also
// stored at `kept`, in the form that Unpacked reads.
template <class F, bool keep, int columns, class Sums>
[[gnu::always_inline]] inline void accumulate_block(const F& super, int j, const ActCursor& in, Sums& acc, uint8_t* kept) {
  constexpr int parts = F::kHalves ? 2 : 1;
  F32 total[2][columns];
  unroll<parts>([&](auto h) __attribute__((always_inline)) {
    I32 sum[2][columns];
    unroll<columns>([&](auto c) __attribute__((always_inline)) {
      const ActBlock& x = in[c];
      sum[0][c] = sum[1][c] = set(F::kAffine ? 0 : parts == 1 ? x.zero : h == 0 ? x.zero_lo : x.zero_hi);
    });
    unroll<8 / parts>([&](auto i) __attribute__((always_inline)) {
      constexpr int q = h * 4 + i;
      const U8 w0 = super.template code<0, q>(j);
      const U8 w1 = super.template code<1, q>(j);
      if constexpr (keep) {
        store_u8(kept + 64 * q, w0);
        store_u8(kept + 512 + 64 * q, w1);
      }
      unroll<columns>([&](auto c) __attribute__((always_inline)) {
        const I32 x = repeat4(in[c].codes + 4 * q);
        sum[0][c] = dot4(sum[0][c], w0, x);
        sum[1][c] = dot4(sum[1][c], w1, x);
      });
    });
    unroll<2>([&](auto g) __attribute__((always_inline)) {
      const F32 scale = super.template scale<g, h>(j);
      float* floats = nullptr;
      if constexpr (keep) {
        floats = reinterpret_cast<float*>(kept + 1024) + 16 * (parts * g + h);
        store(floats, scale);
      }
      unroll<columns>([&](auto c) __attribute__((always_inline)) {
        const F32 dot = to_f32(sum[g][c]);
        total[g][c] = h == 0 ? mul(scale, dot) : fma(scale, dot, total[g][c]);
      });
      if constexpr (F::kAffine) {
        const F32 offset = super.template offset<g, h>(j);
        if constexpr (keep) store(floats + 32 * parts, offset);
        unroll<columns>([&](auto c) __attribute__((always_inline)) {
          const ActBlock& x = in[c];
          const float half_sum = static_cast<float>(h == 0 ? x.zero_lo : x.zero_hi) * (-1.0f / 128);
          total[g][c] = fma(offset, set(parts == 1 ? x.sum : half_sum), total[g][c]);
        });
      }
    });
  });
  unroll<columns>([&](auto c) __attribute__((always_inline)) {
    const F32 scale = set(in[c].scale);
    unroll<2>([&](auto g) __attribute__((always_inline)) { acc.put(g, c, fma(total[g][c], scale, acc.get(g, c))); });
  });
}

// Weights are asked for this many bytes before their use: the hardware's prefetcher stops at each page,
// and the work on a block keeps the core from running ahead by itself.
constexpr int kPrefetch = 8192;

// Lines to ask for: some with each block, until the end.
struct Ahead {
  const uint8_t* next;
  const uint8_t* end;
  int lines;  // with each block

  [[gnu::always_inline]] void ask() {
    if (next >= end) return;
    for (int i = 0; i < lines; ++i) __builtin_prefetch(next + 64 * i);
    next += 64 * lines;
  }
};

// Adds num_blocks blocks, a whole number of super-blocks, to acc, and asks for weights that come later.
template <class F, bool keep, int columns, class Sums, class Ask>
[[gnu::always_inline]] inline void accumulate(const uint8_t* source, int64_t num_blocks, const ActCursor& in,
                                              Sums& acc, uint8_t* kept, Ask&& ask) {
  for (int64_t b = 0; b < num_blocks; b += F::kSuper) {
    const uint8_t* bytes = source + b / F::kSuper * F::kBytes;
    const F super(bytes);
    for (int j = 0; j < F::kSuper; ++j) {
      ask(bytes, j);
      accumulate_block<F, keep, columns>(super, j, in.at_block(b + j), acc, kept);
      if constexpr (keep) kept += Unpacked<F::kHalves, F::kAffine>::kBytes;
    }
  }
}

// out[column][32] = (first ? 0 : out) + blocks · in
template <class F, int columns, bool keep, class Ask>
[[gnu::always_inline]] inline void product_tile(const uint8_t* source, int64_t num_blocks, const ActCursor& in,
                                                float* out, bool first, uint8_t* kept, Ask&& ask) {
  using Sums = std::conditional_t<(columns > kInRegisters<F>), MemorySums<columns>, RegisterSums<columns>>;
  Sums acc(out, first);
  accumulate<F, keep, columns>(source, num_blocks, in, acc, kept, ask);
  acc.finish(out);
}

// One tile alone: the weights stream by.
template <class F, int columns>
void streamed_tile(const uint8_t* source, int64_t num_blocks, const ActCursor& in, float* out) {
  constexpr int size = F::kBytes / F::kSuper;
  product_tile<F, columns, false>(source, num_blocks, in, out, true, nullptr,
                                  [](const uint8_t* bytes, int j) __attribute__((always_inline)) {
    for (int line = 0; line < size; line += 64) __builtin_prefetch(bytes + j * size + kPrefetch + line);
  });
}

// A tile of several that share a piece of the panel. Apart where nothing is left to ask for: that needs registers.
template <class F, int columns, bool keep>
void shared_tile(const uint8_t* source, int64_t num_blocks, const ActCursor& in, float* out, bool first,
                 uint8_t* kept, Ahead* ahead) {
  if (!keep && ahead->next >= ahead->end)
    return product_tile<F, columns, false>(source, num_blocks, in, out, first, nullptr,
                                           [](const uint8_t*, int) __attribute__((always_inline)) {});
  Ahead mine = *ahead;
  product_tile<F, columns, keep>(source, num_blocks, in, out, first, kept,
                                 [&](const uint8_t*, int) __attribute__((always_inline)) { mine.ask(); });
  *ahead = mine;
}

// Calls fn(width, begin, t) for each of as few tiles of rows as are at most `widest` wide, of nearly equal width, a
// constant.
template <int widest, class Fn>
inline void by_tiles(int rows, Fn&& fn) {
  const int tiles = (rows + widest - 1) / widest;
  for (int t = 0; t < tiles; ++t) {
    const int begin = rows * t / tiles;
    const int width = rows * (t + 1) / tiles - begin;
    unroll<widest>([&](auto i) __attribute__((always_inline)) {
      if (width == i + 1) fn(std::integral_constant<int, i + 1>{}, begin, t);
    });
  }
}

// How many activation rows one pass over unpacked codes takes.
template <class F>
constexpr int kWidest = kInRegisters<F>;

// Adds one piece of a panel to several tiles of rows: the first decodes its codes and leaves them unpacked in
// L1, where the others find them. All ask for the next piece, so that memory does not rest while they multiply.
template <Layout layout>
void shared_piece(const uint8_t* source, int64_t num_blocks, const Acts& in, int64_t block, int rows, float* out,
                  uint8_t* scratch) {
  using F = Format<layout>;
  using Plain = Unpacked<F::kHalves, F::kAffine>;
  constexpr int widest = kWidest<F>;
  constexpr int lines = (F::kBytes / F::kSuper + 63) / 64;
  constexpr bool whole_bytes = F::kBytes >= 1024 * F::kSuper;  // nothing to unpack
  const int tiles = (rows + widest - 1) / widest;
  const int64_t size = num_blocks / F::kSuper * F::kBytes;
  Ahead ahead = {source + size, source + 2 * size, (lines + tiles - 1) / tiles};
  by_tiles<widest>(rows, [&](auto w, int begin, int t) __attribute__((always_inline)) {
    const ActCursor cursor = ActCursor::at(in, begin, block);
    float* tile_out = out + 32 * begin;
    if constexpr (whole_bytes)
      shared_tile<F, w, false>(source, num_blocks, cursor, tile_out, block == 0, nullptr, &ahead);
    else if (t == 0)
      shared_tile<F, w, true>(source, num_blocks, cursor, tile_out, block == 0, scratch, &ahead);
    else
      shared_tile<Plain, w, false>(scratch, num_blocks, cursor, tile_out, block == 0, nullptr, &ahead);
  });
}

// Up to this many rows it is cheaper to decode the packed codes anew for each tile than to store them: not for
// whole bytes, which need no decoding, nor for scales per 16, which are dear to decode.
template <class F>
constexpr int kDirectRows = F::kHalves || F::kBytes >= 1024 * F::kSuper ? kWidest<F> : 2 * kWidest<F>;

// So many rows are one tile all the same, whose sums lie in memory: codes of five bits are dear to decode.
template <Layout layout>
constexpr int kWideTile =
    kManyRegisters && (layout == Layout::Q5_0 || layout == Layout::Q5_1 || layout == Layout::Q5_K) ? 8 : 0;

// All of a panel to few rows, whose tiles decode it anew.
template <Layout layout, int widest>
void streamed_product(const uint8_t* panel, const Acts& in, int rows, float* out) {
  by_tiles<widest>(rows, [&](auto w, int begin, int) __attribute__((always_inline)) {
    streamed_tile<Format<layout>, w>(panel, in.num_blocks(), ActCursor::at(in, begin, 0), out + 32 * begin);
  });
}

// out[rows][32] = panel · in. Few rows stream the panel; more share it piece by piece.
template <Layout layout>
void quantized_product(const uint8_t* panel, const Acts& in, int rows, float* out, uint8_t* scratch) {
  using F = Format<layout>;
  const int64_t blocks = in.num_blocks();
  if constexpr (kWideTile<layout> > 0) {
    if (rows <= kWideTile<layout>) return streamed_product<layout, kWideTile<layout>>(panel, in, rows, out);
  }
  if (rows <= kDirectRows<F>) return streamed_product<layout, kWidest<F>>(panel, in, rows, out);
  // Pieces of nearly equal size, each a whole number of super-blocks.
  const int64_t supers = blocks / F::kSuper;
  constexpr int64_t most = kUnpackBlocks / F::kSuper;
  const int64_t pieces = (supers + most - 1) / most;
  for (int64_t i = 0; i < pieces; ++i) {
    const int64_t begin = supers * i / pieces;
    const int64_t end = supers * (i + 1) / pieces;
    shared_piece<layout>(panel + begin * F::kBytes, (end - begin) * F::kSuper, in, begin * F::kSuper, rows, out,
                         scratch);
  }
}

template <Layout layout> inline F32 load_weights(const uint8_t* p) {
  if constexpr (layout == Layout::F32) return load(reinterpret_cast<const float*>(p));
  else if constexpr (layout == Layout::F16) return load_f16(halves(p));
  else return load_bf16(halves(p));
}

template <Layout layout, int columns>
void float_tile(const uint8_t* panel, const Acts& in, int row, float* out) {
  constexpr int bytes = layout == Layout::F32 ? 4 : 2;
  const float* x = in.values + row * in.cols;
  F32 acc[2][columns];
  unroll<columns>([&](auto c) __attribute__((always_inline)) { acc[0][c] = acc[1][c] = zero_f(); });
  for (int64_t k = 0; k < in.cols; ++k) {
    const F32 w0 = load_weights<layout>(panel + 32 * bytes * k);
    const F32 w1 = load_weights<layout>(panel + 32 * bytes * k + 16 * bytes);
    unroll<columns>([&](auto c) __attribute__((always_inline)) {
      const F32 value = set(x[c * in.cols + k]);
      acc[0][c] = fma(w0, value, acc[0][c]);
      acc[1][c] = fma(w1, value, acc[1][c]);
    });
  }
  unroll<columns>([&](auto c) __attribute__((always_inline)) {
    store(out + 32 * c, acc[0][c]);
    store(out + 32 * c + 16, acc[1][c]);
  });
}

template <Layout layout>
void float_product(const uint8_t* panel, const Acts& in, int rows, float* out) {
  constexpr int widest = kManyRegisters ? 8 : 2;
  for (int begin = 0; begin < rows; begin += widest) {
    const int width = rows - begin < widest ? rows - begin : widest;
    unroll<widest>([&](auto i) __attribute__((always_inline)) {
      if (width == i + 1) float_tile<layout, i + 1>(panel, in, begin, out + 32 * begin);
    });
  }
}

// out[R][32] = panel · in, for any layout.
inline void panel_product(Layout layout, const uint8_t* panel, const Acts& in, int rows, float* out,
                          uint8_t* scratch) {
  switch (layout) {
    case Layout::F32: return float_product<Layout::F32>(panel, in, rows, out);
    case Layout::F16: return float_product<Layout::F16>(panel, in, rows, out);
    case Layout::BF16: return float_product<Layout::BF16>(panel, in, rows, out);
    default:
      with_quantized(layout, [&](auto l) { quantized_product<l>(panel, in, rows, out, scratch); });
  }
}

}  // namespace tonnage::TONNAGE_ISA
