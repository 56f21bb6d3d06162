// The fused steps of a forward pass: what each one reads and writes. One table of kernels per ISA.
//
// Axes: R token rows of the step, D model width, H query heads, K key/value heads. All buffers are
// row-major and lie in the arena; a Worker does its share of the rows, panels or heads.
#pragma once

#include <cstdint>

#include "tonnage/layout.h"

namespace tonnage {

// Thirty-two quantized activations and what a product needs to know of them: one cache line.
struct ActBlock {
  int8_t codes[32];
  float scale;      // value = scale * code
  float sum;        // sum of the 32 codes
  int32_t zero;     // -128 * sum: where an accumulator of weights stored as code + 128 starts
  int32_t zero_lo;  // the same of the first 16
  int32_t zero_hi;  // the same of the last 16
  int32_t unused[3];
};

// R rows of `cols` activations: quantized, or plain floats, or both. Codes of a block that a row ends within are zero
// behind its end.
struct Acts {
  ActBlock* blocks = nullptr;  // [R][stride]
  float* values = nullptr;     // [R][cols]
  int64_t cols = 0;
  TONNAGE_INLINE int64_t num_blocks() const { return ceil_div(cols, kBlockCols); }
  TONNAGE_INLINE int64_t stride() const { return num_blocks() + 1; }  // off powers of two, so rows do not share cache sets
};

struct Weight {
  const uint8_t* data = nullptr;
  Layout layout = Layout::F32;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t panel_stride = 0;  // bytes from one panel to the next
  TONNAGE_INLINE int64_t panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
};

// Consecutive positions of one sequence. pages[g][i] is the page of group g with positions 64 i .. 64 i + 63.
struct Span {
  const int32_t* const* pages;
  int32_t first_row;
  int32_t num_rows;
  int32_t position;
};

// Rows of one sequence whose final hidden states are added to a slot of PoolHiddenOp::sums.
struct PooledRows {
  int32_t first_row;
  int32_t num_rows;
  int32_t slot;
  bool begins;  // the sum starts anew
};

struct Step {
  int32_t num_rows = 0;
  const int32_t* tokens = nullptr;     // [R]
  const int32_t* positions = nullptr;  // [R]
  const Span* spans = nullptr;
  int32_t num_spans = 0;
  const int32_t* logit_rows = nullptr;
  int32_t num_logit_rows = 0;
  const PooledRows* pooled = nullptr;
  int32_t num_pooled = 0;
};

struct Worker {
  int32_t index;
  int32_t count;
  uint8_t* scratch;  // kWorkerScratchBytes, its own
};

constexpr int kMaxRows = 512;       // rows of one step
constexpr int kPageTokens = 64;     // positions of one KV page
constexpr int kUnpackBlocks = 20;   // blocks unpacked at a time: 640 columns, about half of L1
constexpr int kUnpackBytes = kUnpackBlocks * (1024 + 512);  // codes, scales and offsets
constexpr int kPanelOutBytes = kMaxRows * kPanelRows * 4;
constexpr int kQueryTile = 48;      // query vectors sharing one pass over the keys
constexpr int kMaxHeadDim = 512;
constexpr int kAttendBytes = kQueryTile * (kMaxHeadDim + kPageTokens + 8) * 4;
constexpr int kWorkerScratchBytes = kUnpackBytes + 2 * kPanelOutBytes + kAttendBytes;

// x[r] = scale * table[token[r]] (+ positions[position[r]], learned positions)
struct EmbedOp {
  Weight table;
  float scale;
  float* x;  // [R][D]
  Weight positions;  // no data where there are none
};

// table[r] = cosines, then sines of position[r] * frequency[p], times scale
struct RopeTableOp {
  const float* frequencies;  // [pairs]
  int32_t pairs;
  float* table;  // [R][2][pairs]
  float scale;
};

// With `added`: x += rmsnorm(added) * added_weight. Then out = rmsnorm(x) * weight, or x as it is without weight,
// quantized and/or plain. RMSNorm: Zhang & Sennrich 2019. With `gather`, output row i reads row logit_rows[i].
// With `centred`: out = layernorm(x) * weight + bias (Ba et al. 2016); mean, then the variance around it, each a sum as
// that of squares.
struct NormOp {
  float* x;  // [R][D]
  const float* weight;  // or null
  const float* added;  // [R][D] or null
  const float* added_weight;
  float eps;
  Acts out;
  bool gather;
  bool centred;
  const float* bias;  // or null
};

// out[r] = scale * (weight · in[r] + bias) (+ out[r] if accumulate), soft-capped if cap > 0. Up to three matrices
// side by side in one output row.
struct MatmulOp {
  static constexpr int kMaxParts = 3;
  Weight parts[kMaxParts];
  const float* bias[kMaxParts];
  int64_t out_column[kMaxParts];
  int32_t num_parts;
  Acts in;
  float* out;
  int64_t out_stride;
  float cap;
  bool accumulate;
  bool gather;  // rows are the step's logit rows
  float scale;
};

enum class Activation : int32_t { SiLU = 0, GeluTanh = 1, Gelu = 2, SquaredRelu = 3 };

// out = activation(gate · in + gate_bias) * (up · in + up_bias), or its first factor alone without up
struct GatedOp {
  Weight gate;
  Weight up;  // no data where there is none
  Acts in;
  Acts out;
  Activation activation;
  const float* gate_bias;  // null where there is none
  const float* up_bias;    // as gate_bias, where there is an up
};

enum class KvFormat : int32_t { F16 = 0, Int8 = 1 };
constexpr int kKvScaleBytes = 2 * kPageTokens;  // of the keys, or the values, of one head in one page

// Where one layer's keys and values lie, per page and head.
// F16: K as [4][k_dim][16 tokens], V as [64][v_pad].
// Int8: a scale of f16 for each of 64 tokens, then K as bytes [4][k_pad / 4][16 tokens][4]; the same scales of
// V, then V as [16][v_pad][4 tokens]. A byte is code + 128, |code| <= 127, and its value scale * code.
// Elements from v_dim to v_pad are zero, and so are those of K before it is Hadamard-rotated.
struct KvLayer {
  uint8_t* base;
  int64_t page_bytes;  // from one page to the next, all layers in it
  int32_t num_heads;
  int32_t k_dim;
  int32_t v_dim;
  int32_t k_pad;  // a multiple of 16 for Int8, else k_dim
  int32_t v_pad;  // a multiple of 16
  KvFormat format;
  int32_t group;  // whose tables of pages count
  TONNAGE_INLINE int64_t part_bytes(int64_t size) const {
    return format == KvFormat::Int8 ? kPageTokens * size + kKvScaleBytes : 2 * kPageTokens * size;
  }
  TONNAGE_INLINE int64_t key_bytes() const { return part_bytes(k_pad); }
  TONNAGE_INLINE int64_t head_bytes() const { return key_bytes() + part_bytes(v_pad); }
  TONNAGE_INLINE uint8_t* keys(int32_t page, int32_t head) const { return base + page * page_bytes + head * head_bytes(); }
  TONNAGE_INLINE uint8_t* values(int32_t page, int32_t head) const { return keys(page, head) + key_bytes(); }
};

// Norms the first q_cols columns of each row, its queries, and the next k_cols, its keys, each as one vector, in
// place. Sums of squares as of NormOp.
struct QkNormOp {
  float* qkv;  // [R][cols]
  int64_t cols;
  int64_t q_cols;
  int64_t k_cols;
  const float* q_norm;  // [q_cols]
  const float* k_norm;  // [k_cols]
  float eps;
};

// Norms and rotates the query and key heads of qkv in place, scales the queries, stores K and V. With `temperature` the
// scale at position p is scale * (1 + temperature * log(1 + floor(p / temperature_tokens))).
// For Int8 pages keys and values are then Hadamard-rotated (kernels/hadamard.h), after the keys lost the low-frequency
// key bias: what `k_bias` adds to pairs from `low_from` on. Those turn so slowly that it is about the same at
// every position, where it adds the same to all scores of a query and softmax does not see it. It may be many
// times the rest of a key.
struct RopeKvWriteOp {
  float* qkv;  // [R][H k_dim + K k_dim + K v_dim]
  int32_t num_heads;
  KvLayer kv;
  const float* q_norm;  // [k_dim] or null
  const float* k_norm;
  float eps;
  float scale;
  const float* table;  // of RopeTableOp; null without pairs
  int32_t pairs;       // 0: nothing is rotated
  bool interleaved;
  const float* k_bias;  // [K k_dim] or null
  int32_t low_from;     // 0 to pairs
  float temperature;    // 0 for none
  int32_t temperature_tokens;
};

// The last-token gather. Behind the last layer's keys and values only rows with logits and pooled rows go on: they
// move to the front of the buffers, in their order, and later ops see a step of them alone.
struct GatherLastOp {
  float* x;  // [R][x_cols]
  int64_t x_cols;
  float* qkv;  // [R][qkv_cols]
  int64_t qkv_cols;
  Acts kept;  // moved as well, where a later product reads it; no columns for none
};

// out[r] = softmax(cap(q · K)) · V over the window, per head; online softmax (Milakov & Gimelshein 2018)
// over blocks of 64 positions in order, so the bits depend on position alone. Over Int8 pages queries are first
// Hadamard-rotated as keys were.
struct AttendOp {
  const float* qkv;
  int32_t num_heads;
  KvLayer kv;
  int32_t window;  // 0: everything before
  float softcap;
  float* out;  // [R][H v_dim]
};

struct QuantizeOp {
  const float* x;  // [R][cols]
  Acts out;
};

// sums[slot] += the norm of x[r], which is only read, for all pooled rows in order; with `added` x is first what
// NormOp makes of it. Every element is one chain of float64 additions, so chunks do not change its bits.
struct PoolHiddenOp {
  const float* x;  // [R][cols]
  const float* weight;
  const float* added;  // [R][cols] or null
  const float* added_weight;
  float eps;
  int64_t cols;
  double* sums;  // [slots][cols]
  bool centred;  // and bias: as of NormOp
  const float* bias;
};

// A packed panel that is to become rows of another format.
struct Requantization {
  Layout source;  // of the panel
  Layout target;
  const uint8_t* panel;
  int64_t rows;  // up to 32
  int64_t cols;
  const float* importance = nullptr;  // of each column's squared error, above 0, for whole blocks; null: all count alike
};
constexpr int64_t kLogitBlock = 256;
constexpr int64_t kRequantizeFloats = 16 * 256;

struct Kernels {
  const char* isa;
  void (*embed)(const EmbedOp&, const Step&, Worker);
  void (*rope_table)(const RopeTableOp&, const Step&, Worker);
  void (*norm)(const NormOp&, const Step&, Worker);
  void (*matmul)(const MatmulOp&, const Step&, Worker);
  void (*gated)(const GatedOp&, const Step&, Worker);
  void (*qk_norm)(const QkNormOp&, const Step&, Worker);
  void (*rope_kv_write)(const RopeKvWriteOp&, const Step&, Worker);
  void (*attend)(const AttendOp&, const Step&, Worker);
  void (*quantize)(const QuantizeOp&, const Step&, Worker);
  void (*pool_hidden)(const PoolHiddenOp&, const Step&, Worker);
  // Lays `rows` <= 32 checkpoint rows of `cols` elements into one panel, missing rows as zero.
  void (*pack)(Layout, const uint8_t* source, int64_t rows, int64_t cols, uint8_t* panel);
  // Writes the panel's rows to `out` as blocks of the target, quantized from what the panel decodes to;
  // tile: kRequantizeFloats floats. Returns a row whose values are not finite or exceed what
  // the target's scales hold, or -1.
  int64_t (*requantize)(const Requantization&, float* tile, uint8_t* out);
  // Sets the largest of n <= kLogitBlock logits; returns whether each is a number below infinity.
  bool (*block_peak)(const float* logits, int64_t n, float* peak);
  // Sums exp((logit - peak) / temperature) over n <= kLogitBlock logits.
  double (*block_weight)(const float* logits, int64_t n, float peak, float temperature);
};

}  // namespace tonnage
