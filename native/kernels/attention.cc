// Grouped-query attention over paged keys and values.
#include "kernels/attention_f16.h"
#include "kernels/attention_int8.h"
#include "kernels/table.h"

namespace tonnage::TONNAGE_ISA {

namespace {

// next_keys: where the keys of the page after this one lie, or null.
template <class Pages>
void attend_block(Tile& tile, Pages& pages, const AttendOp& op, const uint8_t* keys, const uint8_t* values,
                  const uint8_t* next_keys, int block) {
  const int after = tile.position[tile.count - 1] + 1 - block;
  const int seen = after < kPageTokens ? after : kPageTokens;  // by the tile's last row
  // A few rows compute too little to let the core run ahead: they ask for the values while they score, and
  // for the next page's keys while they take P·V.
  const bool few = tile.count <= 2 * kMicro;
  if (few) ask_for(values, pages.value_bytes(seen));
  by_micro(tile.count, [&](auto n, int i) { pages.template score<n>(tile, i, keys, seen); });
  if (few && next_keys) ask_for(next_keys, op.kv.key_bytes());
  for (int i = 0; i < tile.count; ++i) mask_scores(tile, i, block, op.window, op.softcap);
  update_softmax(tile);
  pages.encode_weights(tile, values, seen);
  by_micro(tile.count, [&](auto n, int i) { pages.template pv<n>(tile, i, values, seen); });
}

struct Heads {
  int begin, end;
};

// Attends rows [row, row + num_rows) of a span with some heads of one group.
template <class Pages>
void attend_tile(const AttendOp& op, const Span& span, int row, int num_rows, Heads heads, uint8_t* shared,
                 uint8_t* scratch) {
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
  const int32_t* table = span.pages[kv.group];
  Pages pages(kv, shared);
  pages.begin(tile);
  for (int page = from; page <= last; ++page) {
    const uint8_t* next_keys = page < last ? kv.keys(table[page + 1], kv_head) : nullptr;
    attend_block(tile, pages, op, kv.keys(table[page], kv_head), kv.values(table[page], kv_head), next_keys,
                 page * kPageTokens);
  }
  for (int i = 0; i < tile.count; ++i) {
    const int width = heads.end - heads.begin;
    float* out = op.out + (int64_t{span.first_row + row + i / width} * op.num_heads + heads.begin + i % width) * kv.v_dim;
    float* attended = tile.out + i * kv.v_pad;
    const F32 scale = set(1.0f / tile.total[i]);
    for (int d = 0; d < kv.v_pad; d += 16) store(attended + d, mul(load(attended + d), scale));
    Pages::finish(attended, kv);
    std::memcpy(out, attended, kv.v_dim * sizeof(float));
  }
}

// Units of work are (head, tile of rows), tiles fastest; a worker takes a contiguous range and does the
// heads of one group and tile that fall into it together.
template <class Pages>
void attend_share(const AttendOp& op, const Step& step, Worker worker) {
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
        const int64_t low = begin > t ? ceil_div(begin - t, num_tiles) : 0;
        const int64_t high = end > t ? ceil_div(end - t, num_tiles) : 0;
        const int first = kv_head * group;
        const Heads heads = {static_cast<int>(low > first ? low : first),
                             static_cast<int>(high < first + group ? high : first + group)};
        const int rows = span.num_rows - row < tile_rows ? span.num_rows - row : tile_rows;
        if (heads.begin < heads.end) attend_tile<Pages>(op, span, row, rows, heads, worker.scratch, scratch);
      }
    }
  }
}

}  // namespace

void attend(const AttendOp& op, const Step& step, Worker worker) {
  if (op.kv.format == KvFormat::Int8) return attend_share<Int8Pages>(op, step, worker);
  attend_share<HalfPages>(op, step, worker);
}

}  // namespace tonnage::TONNAGE_ISA
