// Grouped-query attention over paged f16 keys and values.
#include "kernels/formats.h"
#include "kernels/table.h"

namespace tonnage::TONNAGE_ISA {

namespace {

constexpr int kMicro = kManyRegisters ? 6 : 2;  // query vectors per pass, four accumulators each

// The queries of one tile share the keys of one head; all state lies in the worker's scratch.
struct Tile {
  const float* queries[kQueryTile];
  int position[kQueryTile];
  int count;
  float* out;      // [count][v_pad]
  float* weights;  // [count][64]
  float* peak;     // [kQueryTile] running maximum
  float* total;    // [kQueryTile] running sum
  float* next;     // [kQueryTile]
  float* shrink;   // [kQueryTile]
};

// out[i][16 g..] = queries[i] · keys of `groups` times sixteen positions.
template <int n, int groups>
void score_groups(const float* const* q, const uint16_t* keys, int k_dim, float* out) {
  F32 acc[n][groups];
  unroll<n>([&](auto i) __attribute__((always_inline)) {
    unroll<groups>([&](auto g) __attribute__((always_inline)) { acc[i][g] = zero_f(); });
  });
  for (int d = 0; d < k_dim; ++d) {
    F32 k[groups];
    unroll<groups>([&](auto g) __attribute__((always_inline)) { k[g] = load_f16(keys + (g * k_dim + d) * 16); });
    unroll<n>([&](auto i) __attribute__((always_inline)) {
      const F32 x = set(q[i][d]);
      unroll<groups>([&](auto g) __attribute__((always_inline)) { acc[i][g] = fma(k[g], x, acc[i][g]); });
    });
  }
  unroll<n>([&](auto i) __attribute__((always_inline)) {
    unroll<groups>([&](auto g) __attribute__((always_inline)) { store(out + 64 * i + 16 * g, acc[i][g]); });
  });
}

// Positions from num_tokens on are left as they are; the mask hides them.
template <int n>
void score_block(const float* const* q, const uint16_t* keys, int k_dim, int num_tokens, float* out) {
  if (num_tokens > 32) return score_groups<n, 4>(q, keys, k_dim, out);
  if (num_tokens > 16) return score_groups<n, 2>(q, keys, k_dim, out);
  score_groups<n, 1>(q, keys, k_dim, out);
}

// out[i][columns] = out * shrink[i] + weights[i] · values. Tokens from num_tokens on have weights of 0.
template <int n, int lines>
void mix_block(const float* weights, const float* shrink, const uint16_t* values, int num_tokens, int v_pad, float* out) {
  F32 acc[n][lines];
  unroll<n>([&](auto i) __attribute__((always_inline)) {
    unroll<lines>([&](auto g) __attribute__((always_inline)) {
      acc[i][g] = mul(load(out + i * v_pad + 16 * g), set(shrink[i]));
    });
  });
  for (int t = 0; t < num_tokens; ++t) {
    F32 v[lines];
    unroll<lines>([&](auto g) __attribute__((always_inline)) { v[g] = load_f16(values + t * v_pad + 16 * g); });
    unroll<n>([&](auto i) __attribute__((always_inline)) {
      const F32 w = set(weights[64 * i + t]);
      unroll<lines>([&](auto g) __attribute__((always_inline)) { acc[i][g] = fma(v[g], w, acc[i][g]); });
    });
  }
  unroll<n>([&](auto i) __attribute__((always_inline)) {
    unroll<lines>([&](auto g) __attribute__((always_inline)) { store(out + i * v_pad + 16 * g, acc[i][g]); });
  });
}

template <int n>
void mix_all(const float* weights, const float* shrink, const uint16_t* values, int num_tokens, int v_pad, float* out) {
  int d = 0;
  for (; d + 64 <= v_pad; d += 64) mix_block<n, 4>(weights, shrink, values + d, num_tokens, v_pad, out + d);
  for (; d < v_pad; d += 16) mix_block<n, 1>(weights, shrink, values + d, num_tokens, v_pad, out + d);
}

template <class Fn>
void by_micro(int count, Fn&& fn) {
  for (int i = 0; i < count; i += kMicro) {
    const int width = count - i < kMicro ? count - i : kMicro;
    unroll<kMicro>([&](auto n) __attribute__((always_inline)) {
      if (width == n + 1) fn(std::integral_constant<int, n + 1>{}, i);
    });
  }
}

F32 capped(F32 x, float cap) { return cap > 0 ? mul(set(cap), tanh(mul(x, set(1.0f / cap)))) : x; }

// Turns raw scores of the positions [block, block + 64) into masked, capped ones and notes the maximum.
void mask_scores(Tile& tile, int i, int block, int window, float cap) {
  float* s = tile.weights + 64 * i;
  const int last = tile.position[i] - block + 1;  // first position not seen
  const int first = window > 0 ? tile.position[i] - window + 1 - block : 0;
  const bool all_seen = last >= kPageTokens && first <= 0;
  F32 best = set(-INFINITY);
  if (all_seen && cap <= 0) {
    for (int g = 0; g < 4; ++g) best = max(best, load(s + 16 * g));
    tile.next[i] = reduce_max(best);
    return;
  }
  for (int g = 0; g < 4; ++g) {
    F32 x = keep_first(capped(load(s + 16 * g), cap), last - 16 * g, set(-INFINITY));
    if (first > 0) x = keep_first(set(-INFINITY), first - 16 * g, x);
    best = max(best, x);
    store(s + 16 * g, x);
  }
  tile.next[i] = reduce_max(best);
}

void soften(Tile& tile) {
  for (int i = 0; i < tile.count; i += 16) {
    const F32 old = load(tile.peak + i);
    const F32 peak = max(old, load(tile.next + i));
    store(tile.peak + i, peak);
    // Where nothing was seen yet the maximum is -inf; any finite one gives weights of 0.
    const F32 finite = max(peak, set(-3e38f));
    store(tile.next + i, finite);
    store(tile.shrink + i, exp(sub(old, finite)));
  }
  for (int i = 0; i < tile.count; ++i) {
    float* s = tile.weights + 64 * i;
    const F32 peak = set(tile.next[i]);
    F32 sum = zero_f();
    for (int g = 0; g < 4; ++g) {
      const F32 w = exp(sub(load(s + 16 * g), peak));
      sum = add(sum, w);
      store(s + 16 * g, w);
    }
    tile.total[i] = tile.total[i] * tile.shrink[i] + reduce_add(sum);
  }
}

// Inline, because calls of functions that only prefetch are dropped.
[[gnu::always_inline]] inline void ask_for(const uint16_t* data, int bytes) {
  for (int i = 0; i < bytes; i += 64) __builtin_prefetch(reinterpret_cast<const uint8_t*>(data) + i);
}

// next_keys: where the keys of the page after this one lie, or null.
void attend_block(Tile& tile, const AttendOp& op, const uint16_t* keys, const uint16_t* values,
                  const uint16_t* next_keys, int block) {
  const int after = tile.position[tile.count - 1] + 1 - block;
  const int seen = after < kPageTokens ? after : kPageTokens;  // by the tile's last row
  // A few rows compute too little to let the core run ahead: they ask for the values while they score, and
  // for the next page's keys while they mix.
  const bool few = tile.count <= 2 * kMicro;
  if (few) ask_for(values, 2 * seen * op.kv.v_pad);
  by_micro(tile.count, [&](auto n, int i) {
    score_block<n>(tile.queries + i, keys, op.kv.k_dim, seen, tile.weights + 64 * i);
  });
  if (few && next_keys) ask_for(next_keys, 2 * kPageTokens * op.kv.k_dim);
  for (int i = 0; i < tile.count; ++i) mask_scores(tile, i, block, op.window, op.softcap);
  soften(tile);
  by_micro(tile.count, [&](auto n, int i) {
    mix_all<n>(tile.weights + 64 * i, tile.shrink + i, values, seen, op.kv.v_pad,
               tile.out + i * op.kv.v_pad);
  });
}

Tile make_tile(uint8_t* scratch, int num_queries, int v_pad) {
  auto* p = reinterpret_cast<float*>(scratch);
  Tile tile;
  tile.count = 0;
  tile.peak = p;
  tile.total = p + kQueryTile;
  tile.next = p + 2 * kQueryTile;
  tile.shrink = p + 3 * kQueryTile;
  tile.weights = p + 4 * kQueryTile;
  tile.out = tile.weights + kQueryTile * kPageTokens;
  for (int i = 0; i < kQueryTile; ++i) {
    tile.peak[i] = tile.next[i] = -INFINITY;
    tile.total[i] = tile.shrink[i] = 0;
  }
  std::memset(tile.out, 0, sizeof(float) * num_queries * v_pad);
  return tile;
}

struct Heads {
  int begin, end;
};

// Attends rows [row, row + num_rows) of a span with some heads of one group.
void attend_tile(const AttendOp& op, const Span& span, int row, int num_rows, Heads heads, uint8_t* scratch) {
  const KvLayer& kv = op.kv;
  const int64_t stride = int64_t{op.num_heads + kv.num_heads} * kv.k_dim + int64_t{kv.num_heads} * kv.v_dim;
  const int kv_head = heads.begin / (op.num_heads / kv.num_heads);
  Tile tile = make_tile(scratch, num_rows * (heads.end - heads.begin), kv.v_pad);
  for (int r = row; r < row + num_rows; ++r) {
    for (int h = heads.begin; h < heads.end; ++h) {
      tile.queries[tile.count] = op.qkv + (span.first_row + r) * stride + int64_t{h} * kv.k_dim;
      tile.position[tile.count++] = span.position + r;
    }
  }
  const int first = span.position + row;
  const int from = op.window > 0 && first >= op.window ? (first - op.window + 1) / kPageTokens : 0;
  const int last = (first + num_rows - 1) / kPageTokens;
  const auto keys_of = [&](int page) { return reinterpret_cast<const uint16_t*>(kv.keys(span.pages[page], kv_head)); };
  for (int page = from; page <= last; ++page) {
    const auto* values = reinterpret_cast<const uint16_t*>(kv.values(span.pages[page], kv_head));
    attend_block(tile, op, keys_of(page), values, page < last ? keys_of(page + 1) : nullptr, page * kPageTokens);
  }
  for (int i = 0; i < tile.count; ++i) {
    const int width = heads.end - heads.begin;
    float* out = op.out + (int64_t{span.first_row + row + i / width} * op.num_heads + heads.begin + i % width) * kv.v_dim;
    const F32 scale = set(1.0f / tile.total[i]);
    for (int d = 0; d < kv.v_dim; d += 16) store(out + d, mul(load(tile.out + i * kv.v_pad + d), scale));
  }
}

int64_t ceil_div(int64_t a, int64_t b) { return a <= 0 ? 0 : (a + b - 1) / b; }

}  // namespace

// Units of work are (head, tile of rows), tiles fastest; a worker takes a contiguous range and does the
// heads of one group and tile that fall into it together.
void attend(const AttendOp& op, const Step& step, Worker worker) {
  const int group = op.num_heads / op.kv.num_heads;
  const int tile_rows = kQueryTile / group;
  int64_t num_tiles = 0;
  for (int s = 0; s < step.num_spans; ++s) num_tiles += ceil_div(step.spans[s].num_rows, tile_rows);
  const int64_t begin = op.num_heads * num_tiles * worker.index / worker.count;
  const int64_t end = op.num_heads * num_tiles * (worker.index + 1) / worker.count;
  uint8_t* scratch = worker.scratch + kUnpackBytes + 2 * kPanelOutBytes;
  for (int kv_head = 0; kv_head < op.kv.num_heads; ++kv_head) {
    int64_t t = 0;
    for (int s = 0; s < step.num_spans; ++s) {
      const Span& span = step.spans[s];
      for (int row = 0; row < span.num_rows; row += tile_rows, ++t) {
        const int64_t low = ceil_div(begin - t, num_tiles);
        const int64_t high = ceil_div(end - t, num_tiles);
        const int first = kv_head * group;
        const Heads heads = {static_cast<int>(low > first ? low : first),
                             static_cast<int>(high < first + group ? high : first + group)};
        const int rows = span.num_rows - row < tile_rows ? span.num_rows - row : tile_rows;
        if (heads.begin < heads.end) attend_tile(op, span, row, rows, heads, scratch);
      }
    }
  }
}

}  // namespace tonnage::TONNAGE_ISA
