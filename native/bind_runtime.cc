// Python bindings of arena, program and executor.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>

#include "scaled_f8.h"
#include "tonnage/isa.h"
#include "tonnage/program.h"
#include "tonnage/requantize.h"

namespace nb = nanobind;
using namespace tonnage;

namespace {

// A matrix as Python states it: (offset, layout, rows, cols, panel_stride).
using WeightArgs = std::tuple<int64_t, int32_t, int64_t, int64_t, int64_t>;
// Activations: (offset of ActBlocks or -1, offset of values or -1, cols).
using ActsArgs = std::tuple<int64_t, int64_t, int64_t>;
// (base offset, bytes from a page to the next, heads, k_dim, v_dim, format: f16 or int8, group of pages)
using KvArgs = std::tuple<int64_t, int64_t, int32_t, int32_t, int32_t, std::string, int32_t>;

int64_t round_up(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

int64_t acts_bytes(int64_t rows, int64_t cols) {
  return rows * (ceil_div(cols, kBlockCols) + 1) * static_cast<int64_t>(sizeof(ActBlock));
}

// Sizes above it would overflow the products that follow; no model comes near.
constexpr int64_t kMaxSize = int64_t{1} << 31;

int64_t size_of(const char* name, int64_t value, int64_t limit = kMaxSize) {
  if (value < 1 || value > limit)
    throw InputError(std::string(name) + " is " + std::to_string(value) + ", it must be 1 to " + std::to_string(limit));
  return value;
}

// Turns offsets into addresses, once, and throws InputError for all that does not fit the program.
class Builder {
 public:
  Builder(Program& program) : program_(program) {}

  float* floats(const char* name, int64_t offset, int64_t count) const {
    if (offset < 0) throw InputError(std::string(name) + " is missing");
    return reinterpret_cast<float*>(bytes(name, offset, count * 4));
  }

  float* optional(const char* name, int64_t offset, int64_t count) const {
    return offset < 0 ? nullptr : floats(name, offset, count);
  }

  Weight weight(const WeightArgs& args) const {
    const auto& [offset, layout, rows, cols, stride] = args;
    Weight w;
    const LayoutShape shape = layout_shape(static_cast<Layout>(layout));
    if (shape.source_cols == 0) throw InputError("layout " + std::to_string(layout) + " is unknown");
    size_of("the number of rows of a matrix", rows);
    // Blocks of 32 are filled up while loading.
    if (size_of("the number of columns of a matrix", cols) % shape.source_cols != 0 && shape.source_cols != kBlockCols)
      throw InputError(std::to_string(cols) + " columns are no whole blocks of " + std::to_string(shape.source_cols));
    w.layout = panel_layout(static_cast<Layout>(layout));
    const int64_t panel = panel_bytes(static_cast<Layout>(layout), cols);
    if (stride < panel)
      throw InputError("panels of " + std::to_string(panel) + " bytes overlap at a stride of " + std::to_string(stride));
    w.rows = rows;
    w.cols = cols;
    w.panel_stride = stride;
    int64_t span;
    if (stride % 4 || __builtin_mul_overflow(w.panels() - 1, stride, &span) || __builtin_add_overflow(span, panel, &span))
      throw InputError("the stride " + std::to_string(stride) + " of panels is odd or leaves the arena");
    w.data = bytes("a matrix", offset, span);
    return w;
  }

  Acts acts(const ActsArgs& args) const {
    const auto& [codes, values, cols] = args;
    Acts a;
    a.cols = size_of("the number of columns of activations", cols);
    a.values = optional("activations", values, program_.max_rows * cols);
    if (codes >= 0)
      a.blocks = reinterpret_cast<ActBlock*>(bytes("activation codes", codes, acts_bytes(program_.max_rows, cols)));
    if (!a.values && !a.blocks) throw InputError("activations have neither codes nor values");
    return a;
  }

  KvLayer kv(const KvArgs& args) const {
    const auto& [base, page_bytes, heads, k_dim, v_dim, format, group] = args;
    size_of("the number of key/value heads", heads);
    for (int64_t dim : {k_dim, v_dim}) size_of("a head dimension", dim, kMaxHeadDim);
    if (format != "f16" && format != "int8") throw InputError("pages of '" + format + "' are unknown, they are f16 or int8");
    const auto num_groups = static_cast<int64_t>(program_.groups.size());
    if (group < 0 || group >= num_groups)
      throw InputError("the group of pages is " + std::to_string(group) + ", there are " + std::to_string(num_groups));
    const bool is_int8 = format == "int8";
    KvLayer layer = {nullptr, page_bytes, heads, k_dim, v_dim, static_cast<int32_t>(is_int8 ? round_up(k_dim, 16) : k_dim),
                     static_cast<int32_t>(round_up(v_dim, 16)), is_int8 ? KvFormat::Int8 : KvFormat::F16, group};
    int64_t size;
    if (page_bytes % 4) throw InputError("a page of " + std::to_string(page_bytes) + " bytes is no multiple of 4");
    if (layer.head_bytes() * heads > page_bytes)
      throw InputError("a page of " + std::to_string(page_bytes) + " bytes is too small for heads of " +
                       std::to_string(layer.head_bytes() * heads));
    if (__builtin_mul_overflow(page_bytes, program_.groups[group].num_pages, &size)) throw InputError("the pages leave the arena");
    // The last page ends with its heads; what follows up to page_bytes is other layers'.
    if (size > 0) size -= page_bytes - layer.head_bytes() * heads;
    layer.base = bytes("the pages", base, size);
    return layer;
  }

  // Returns the columns of queries, keys and values side by side.
  int64_t qkv_cols(int32_t num_heads, const KvLayer& kv) const {
    size_of("the number of query heads", num_heads);
    const int64_t cols = (int64_t{num_heads} + kv.num_heads) * kv.k_dim + int64_t{kv.num_heads} * kv.v_dim;
    return size_of("the number of columns of queries, keys and values", cols);
  }

  // Throws when a product's operands do not fit each other.
  void check_product(const char* op, const Weight& w, const Acts& in) const {
    if (w.cols != in.cols)
      throw InputError(std::string(op) + ": the weight has " + std::to_string(w.cols) + " columns, its input " + std::to_string(in.cols));
    if (is_float(w.layout) ? !in.values : !in.blocks)
      throw InputError(std::string(op) + ": the input lacks the form that the weight's layout needs");
  }

  Program& program_;

 private:
  uint8_t* bytes(const char* name, int64_t offset, int64_t count) const {
    if (offset % 4) throw InputError(std::string(name) + " at byte " + std::to_string(offset) + " is not on a multiple of 4");
    return program_.arena->at(offset, count);
  }
};

void add_embed(Program& p, const WeightArgs& table, float scale, int64_t x, const std::optional<WeightArgs>& positions) {
  const Builder b(p);
  const Weight w = b.weight(table);
  if (w.rows < p.vocab_size)
    throw InputError("embed: the table has " + std::to_string(w.rows) + " rows, the vocabulary " + std::to_string(p.vocab_size));
  EmbedOp op = {w, scale, b.floats("embed: x", x, p.max_rows * w.cols), {}};
  if (positions) op.positions = b.weight(*positions), p.max_positions = std::min(p.max_positions, op.positions.rows);
  if (positions && op.positions.cols != w.cols)
    throw InputError("embed: positions have " + std::to_string(op.positions.cols) + " columns, tokens " + std::to_string(w.cols));
  p.ops.push_back(op);
}

void add_rope_table(Program& p, int64_t frequencies, int32_t pairs, int64_t table, float scale) {
  const Builder b(p);
  size_of("rope_table: the number of pairs", pairs);
  p.ops.push_back(RopeTableOp{b.floats("rope_table: frequencies", frequencies, pairs), pairs,
                              b.floats("rope_table: table", table, p.max_rows * pairs * 2), scale});
}

void add_norm(Program& p, int64_t x, int64_t weight, int64_t added, int64_t added_weight, float eps,
              const ActsArgs& out, bool gather, bool centred, int64_t bias) {
  const Builder b(p);
  const Acts acts = b.acts(out);
  const int64_t size = p.max_rows * acts.cols;
  if ((added < 0) != (added_weight < 0)) throw InputError("norm: added and its weight come together");
  if (gather) p.max_logit_rows = std::min(p.max_logit_rows, p.max_rows);
  p.ops.push_back(NormOp{b.floats("norm: x", x, size), b.optional("norm: weight", weight, acts.cols),
                         b.optional("norm: added", added, size),
                         b.optional("norm: added_weight", added_weight, acts.cols), eps, acts, gather, centred, b.optional("norm: bias", bias, acts.cols)});
}

// parts: (weight, bias offset or -1, output column)
void add_matmul(Program& p, const std::vector<std::tuple<WeightArgs, int64_t, int64_t>>& parts, const ActsArgs& in,
                int64_t out, int64_t out_stride, int64_t out_rows, float cap, bool accumulate, bool gather, float scale) {
  const Builder b(p);
  MatmulOp op = {};
  if (parts.empty() || parts.size() > MatmulOp::kMaxParts) throw InputError("matmul: takes one to three matrices");
  op.in = b.acts(in);
  size_of("matmul: out_stride", out_stride);
  size_of("matmul: out_rows", out_rows, kMaxRows);
  if (!gather && out_rows < p.max_rows)
    throw InputError("matmul: the output has " + std::to_string(out_rows) + " rows, a step up to " + std::to_string(p.max_rows));
  for (const auto& [weight, bias, column] : parts) {
    const Weight w = b.weight(weight);
    b.check_product("matmul", w, op.in);
    if (column < 0 || column > kMaxSize || column + w.rows > out_stride)
      throw InputError("matmul: columns " + std::to_string(column) + " + " + std::to_string(w.rows) + " leave the output row of " +
                       std::to_string(out_stride));
    op.parts[op.num_parts] = w;
    op.bias[op.num_parts] = b.optional("matmul: bias", bias, w.panels() * kPanelRows);
    op.out_column[op.num_parts++] = column;
  }
  // What is gathered comes from an input of max_rows rows.
  if (gather) p.max_logit_rows = std::min({p.max_logit_rows, out_rows, p.max_rows});
  op.out = b.floats("matmul: out", out, out_rows * out_stride);
  op.out_stride = out_stride;
  op.cap = cap, op.scale = scale;
  op.accumulate = accumulate;
  op.gather = gather;
  p.ops.push_back(op);
}

Activation activation_of(const std::string& name) {
  if (name == "silu") return Activation::SiLU;
  if (name == "gelu_tanh") return Activation::GeluTanh;
  if (name == "gelu") return Activation::Gelu;
  if (name == "relu2") return Activation::SquaredRelu;
  throw InputError("gated: the activation is " + name + ", not silu, gelu_tanh, gelu or relu2");
}

void add_gated(Program& p, const WeightArgs& gate, const std::optional<WeightArgs>& up, const ActsArgs& in, const ActsArgs& out,
               const std::string& activation, int64_t gate_bias, int64_t up_bias) {
  const Builder b(p);
  GatedOp op = {b.weight(gate), {}, b.acts(in), b.acts(out), activation_of(activation), nullptr, nullptr};
  // Biases are read in whole panels, as they are placed.
  const int64_t length = op.gate.panels() * kPanelRows;
  op.gate_bias = b.optional("gated: gate_bias", gate_bias, length);
  op.up_bias = b.optional("gated: up_bias", up_bias, length);
  if ((op.up_bias != nullptr) != (up && op.gate_bias)) throw InputError("gated: one bias without the other");
  b.check_product("gated", op.gate, op.in);
  if (up) b.check_product("gated", op.up = b.weight(*up), op.in);
  if ((up && op.gate.rows != op.up.rows) || op.gate.rows != op.out.cols)
    throw InputError("gated: gate has " + std::to_string(op.gate.rows) + " rows, up " + std::to_string(op.up.rows) +
                     ", the output " + std::to_string(op.out.cols) + " columns");
  p.ops.push_back(op);
}

void add_qk_norm(Program& p, int64_t qkv, int64_t cols, int64_t q_cols, int64_t k_cols, int64_t q_norm, int64_t k_norm, float eps) {
  const Builder b(p);
  size_of("qk_norm: the columns of queries, keys and values", cols);
  for (int64_t own : {q_cols, k_cols}) size_of("qk_norm: the columns of queries or keys", own);
  if (q_cols + k_cols > cols)
    throw InputError("qk_norm: queries of " + std::to_string(q_cols) + " columns and keys of " + std::to_string(k_cols) + " leave a row of " +
                     std::to_string(cols));
  p.ops.push_back(QkNormOp{b.floats("qk_norm: qkv", qkv, p.max_rows * cols), cols, q_cols, k_cols,
                           b.floats("qk_norm: q_norm", q_norm, q_cols), b.floats("qk_norm: k_norm", k_norm, k_cols), eps});
}

void add_rope_kv_write(Program& p, int64_t qkv, int32_t num_heads, const KvArgs& kv, int64_t q_norm, int64_t k_norm,
                       float eps, float scale, int64_t table, int32_t pairs, bool interleaved, int64_t k_bias,
                       int32_t low_from, float temperature, int32_t temperature_tokens) {
  const Builder b(p);
  const KvLayer layer = b.kv(kv);
  if (pairs != 0 && size_of("rope_kv_write: the number of pairs", pairs) * 2 > layer.k_dim)
    throw InputError("rope_kv_write: " + std::to_string(pairs) + " pairs exceed a head of " + std::to_string(layer.k_dim));
  if (low_from < 0 || low_from > pairs)
    throw InputError("rope_kv_write: low_from is " + std::to_string(low_from) + " of " + std::to_string(pairs) + " pairs");
  if (k_bias >= 0 && layer.format != KvFormat::Int8) throw InputError("rope_kv_write: k_bias is for int8 pages");
  if (temperature != 0) size_of("rope_kv_write: temperature_tokens", temperature_tokens);
  const int64_t size = p.max_rows * b.qkv_cols(num_heads, layer);
  p.ops.push_back(RopeKvWriteOp{b.floats("rope_kv_write: qkv", qkv, size), num_heads, layer,
                                b.optional("rope_kv_write: q_norm", q_norm, layer.k_dim),
                                b.optional("rope_kv_write: k_norm", k_norm, layer.k_dim), eps, scale,
                                pairs == 0 ? nullptr : b.floats("rope_kv_write: table", table, p.max_rows * pairs * 2), pairs, interleaved,
                                b.optional("rope_kv_write: k_bias", k_bias, int64_t{layer.num_heads} * layer.k_dim), low_from, temperature, temperature_tokens});
}

void add_gather_last(Program& p, int64_t x, int64_t x_cols, int64_t qkv, int64_t qkv_cols, const std::optional<ActsArgs>& kept) {
  const Builder b(p);
  size_of("gather_last: the columns of x", x_cols);
  size_of("gather_last: the columns of qkv", qkv_cols);
  p.ops.push_back(GatherLastOp{b.floats("gather_last: x", x, p.max_rows * x_cols), x_cols,
                           b.floats("gather_last: qkv", qkv, p.max_rows * qkv_cols), qkv_cols, kept ? b.acts(*kept) : Acts{}});
}

void add_attend(Program& p, int64_t qkv, int32_t num_heads, const KvArgs& kv, int32_t window, float softcap, int64_t out) {
  const Builder b(p);
  const KvLayer layer = b.kv(kv);
  const int64_t size = p.max_rows * b.qkv_cols(num_heads, layer);
  if (num_heads % layer.num_heads || num_heads / layer.num_heads > kQueryTile)
    throw InputError("attend: " + std::to_string(num_heads) + " query heads do not share " + std::to_string(layer.num_heads) +
                     " key heads, at most " + std::to_string(kQueryTile) + " each");
  if (window < 0) throw InputError("attend: the window is " + std::to_string(window));
  const int64_t kept = p.groups[layer.group].window;
  if (kept > 0 && (window == 0 || window > kept))
    throw InputError("attend: the window is " + std::to_string(window) + " over pages that keep " + std::to_string(kept));
  p.ops.push_back(AttendOp{b.floats("attend: qkv", qkv, size), num_heads, layer, window, softcap,
                           b.floats("attend: out", out, p.max_rows * num_heads * layer.v_dim)});
}

void add_quantize(Program& p, int64_t x, const ActsArgs& out) {
  const Builder b(p);
  const Acts acts = b.acts(out);
  p.ops.push_back(QuantizeOp{b.floats("quantize: x", x, p.max_rows * acts.cols), acts});
}

void add_pool_hidden(Program& p, int64_t x, int64_t weight, int64_t added, int64_t added_weight, float eps, int64_t cols,
                     int64_t sums, int64_t slots, bool centred, int64_t bias) {
  const Builder b(p);
  // A worker norms a whole row in its scratch.
  size_of("pool_hidden: the number of columns", cols, kWorkerScratchBytes / 4);
  if ((added < 0) != (added_weight < 0)) throw InputError("pool_hidden: added and its weight come together");
  if (sums % 8) throw InputError("pool_hidden: sums at byte " + std::to_string(sums) + " are not on a multiple of 8");
  size_of("pool_hidden: the number of slots", slots);
  p.num_slots = p.num_slots > 0 ? std::min(p.num_slots, slots) : slots;
  p.ops.push_back(PoolHiddenOp{b.floats("pool_hidden: x", x, p.max_rows * cols),
                               b.floats("pool_hidden: weight", weight, cols),
                               b.optional("pool_hidden: added", added, p.max_rows * cols),
                               b.optional("pool_hidden: added_weight", added_weight, cols),
                               eps, cols, reinterpret_cast<double*>(b.floats("pool_hidden: sums", sums, 2 * slots * cols)), centred,
                               b.optional("pool_hidden: bias", bias, cols)});
}

// spans: (pages of each group, num_rows, position); pooled: (first_row, num_rows, slot, begins)
void run(Executor& executor, const Program& program, const std::vector<int32_t>& tokens,
         const std::vector<std::tuple<std::vector<std::vector<int32_t>>, int32_t, int32_t>>& spans, const std::vector<int32_t>& logit_rows,
         const std::vector<std::tuple<int32_t, int32_t, int32_t, bool>>& pooled) {
  std::vector<PooledRows> sums;
  for (const auto& [first_row, num_rows, slot, begins] : pooled) sums.push_back({first_row, num_rows, slot, begins});
  std::vector<SpanInput> inputs;
  for (const auto& [pages, num_rows, position] : spans) inputs.push_back({pages, num_rows, position});
  nb::gil_scoped_release release;
  executor.run(program, tokens, inputs, logit_rows, sums);
}

void load_matrix(Executor& executor, const Program& program, int fd, int64_t file_offset, int32_t source, const WeightArgs& target,
                 const std::vector<float>& scales) {
  const Weight w = Builder(const_cast<Program&>(program)).weight(target);
  if (!Requantizer::can(static_cast<Layout>(source), w.layout, w.cols)) throw InputError("load: these formats cannot be converted");
  const TensorScales each = {scales.data(), static_cast<int64_t>(scales.size()), w.rows, w.cols};
  if (!each.fit())
    throw InputError("load: " + std::to_string(scales.size()) + " scales are neither one, nor one per row or 128 x 128 elements");
  nb::gil_scoped_release release;
  executor.load_matrix(fd, file_offset, static_cast<Layout>(source), each, w);
}

int64_t load_staging_bytes(int32_t source, int32_t target, int64_t cols) {
  const auto from = static_cast<Layout>(source), to = panel_layout(static_cast<Layout>(target));
  if (cols <= 0 || cols > kMaxSize || !Requantizer::can(from, to, cols)) throw InputError("load: these formats cannot be converted");
  const int64_t halves = from == Layout::F8_E4M3 ? 2 * kPanelRows * cols : 0;
  const Layout read = halves ? Layout::F16 : from;
  return kPanelRows * source_row_bytes(from, cols) + halves + Requantizer(instruction_sets().front().kernels, read, to, cols).nbytes();
}

void bind_program(nb::module_& m) {
  nb::class_<Arena>(m, "Arena", "One anonymous mapping that holds weights, KV pages and scratch.")
      .def(nb::init<int64_t, bool>(), nb::arg("num_bytes"), nb::kw_only(), nb::arg("huge_pages"))
      .def_prop_ro("num_bytes", &Arena::size)
      .def_prop_ro("address", [](const Arena& a) { return reinterpret_cast<uintptr_t>(a.at(0, 0)); },
                   "Where the arena begins, for asking the kernel which of its pages are resident.")
      .def("read", [](const Arena& a, int64_t offset, int64_t n) {
        return nb::bytes(reinterpret_cast<const char*>(a.at(offset, n)), static_cast<size_t>(n));
      }, nb::arg("offset"), nb::arg("num_bytes"), "Return a copy of bytes [offset, offset + num_bytes).")
      .def("write", [](Arena& a, int64_t offset, nb::bytes data) {
        std::memcpy(a.at(offset, static_cast<int64_t>(data.size())), data.data(), data.size());
      }, nb::arg("offset"), nb::arg("data"), "Copy data to offset.");

  nb::class_<Program>(m, "Program", "A forward pass: fused steps over one arena, run in the order added.")
      .def("__init__", [](Program* p, std::shared_ptr<Arena> arena, int64_t vocab_size,
                          const std::vector<std::pair<int64_t, int64_t>>& groups, int64_t max_rows) {
        if (!arena) throw InputError("a program needs an arena");
        size_of("the most rows of a step", max_rows, kMaxRows);
        size_of("the vocabulary", vocab_size);
        std::vector<PageGroup> page_groups;
        for (const auto& [num_pages, window] : groups) {
          if (num_pages < 0 || num_pages > kMaxSize) throw InputError("the number of pages is " + std::to_string(num_pages));
          if (window < 0) throw InputError("the window of a group is " + std::to_string(window));
          page_groups.push_back({num_pages, window});
        }
        new (p) Program{std::move(arena), {}, vocab_size, std::move(page_groups), max_rows};
      }, nb::arg("arena"), nb::arg("vocab_size"), nb::arg("groups"), nb::arg("max_rows"),
           "groups: (number of pages, window or 0 for all) of each group of pages.")
      .def("embed", &add_embed, nb::kw_only(), nb::arg("table"), nb::arg("scale"), nb::arg("x"), nb::arg("positions") = nb::none())
      .def("rope_table", &add_rope_table, nb::kw_only(), nb::arg("frequencies"), nb::arg("pairs"), nb::arg("table"), nb::arg("scale") = 1.0F)
      .def("norm", &add_norm, nb::kw_only(), nb::arg("x"), nb::arg("weight"), nb::arg("added"), nb::arg("added_weight"), nb::arg("eps"), nb::arg("out"), nb::arg("gather"), nb::arg("centred") = false, nb::arg("bias") = -1)
      .def("matmul", &add_matmul, nb::kw_only(), nb::arg("parts"), nb::arg("input"), nb::arg("out"), nb::arg("out_stride"), nb::arg("out_rows"), nb::arg("cap"), nb::arg("accumulate"), nb::arg("gather"), nb::arg("scale") = 1.0F)
      .def("gated", &add_gated, nb::kw_only(), nb::arg("gate"), nb::arg("up").none(), nb::arg("input"), nb::arg("out"), nb::arg("activation"), nb::arg("gate_bias") = -1, nb::arg("up_bias") = -1)
      .def("qk_norm", &add_qk_norm, nb::kw_only(), nb::arg("qkv"), nb::arg("cols"), nb::arg("q_cols"), nb::arg("k_cols"), nb::arg("q_norm"), nb::arg("k_norm"), nb::arg("eps"))
      .def("rope_kv_write", &add_rope_kv_write, nb::kw_only(), nb::arg("qkv"), nb::arg("num_heads"), nb::arg("kv"), nb::arg("q_norm"), nb::arg("k_norm"), nb::arg("eps"), nb::arg("scale"), nb::arg("table"), nb::arg("pairs"), nb::arg("interleaved"), nb::arg("k_bias") = -1, nb::arg("low_from") = 0, nb::arg("temperature") = 0.0F, nb::arg("temperature_tokens") = 0)
      .def("gather_last", &add_gather_last, nb::kw_only(), nb::arg("x"), nb::arg("x_cols"), nb::arg("qkv"), nb::arg("qkv_cols"), nb::arg("kept") = nb::none())
      .def("attend", &add_attend, nb::kw_only(), nb::arg("qkv"), nb::arg("num_heads"), nb::arg("kv"), nb::arg("window"), nb::arg("softcap"), nb::arg("out"))
      .def("quantize", &add_quantize, nb::kw_only(), nb::arg("x"), nb::arg("out"))
      .def("pool_hidden", &add_pool_hidden, nb::kw_only(), nb::arg("x"), nb::arg("weight"), nb::arg("added"), nb::arg("added_weight"), nb::arg("eps"), nb::arg("cols"), nb::arg("sums"), nb::arg("slots"), nb::arg("centred") = false, nb::arg("bias") = -1);
}

void bind_executor(nb::module_& m) {
  nb::class_<Executor>(m, "Executor", "A team of threads with the kernels of one instruction set.")
      .def(nb::init<const std::string&, int>(), nb::arg("isa"), nb::arg("threads"))
      .def_prop_ro("isa", [](const Executor& e) { return e.kernels().isa; })
      .def_prop_ro("threads", [](Executor& e) { return e.team().size(); })
      .def_prop_ro("scratch_bytes", &Executor::scratch_bytes)
      .def("set_timed", &Executor::set_timed, nb::arg("timed"), "Say whether run notes how long each op takes.")
      .def_prop_ro("op_ns", &Executor::op_ns, "Nanoseconds per op of the last timed run.")
      .def("run", &run, nb::arg("program"), nb::arg("tokens"), nb::arg("spans"), nb::arg("logit_rows"), nb::arg("pooled") = nb::list())
      .def("load_matrix", &load_matrix, nb::kw_only(), nb::arg("program"), nb::arg("fd"), nb::arg("file_offset"), nb::arg("source"), nb::arg("target"),
           nb::arg("scales") = std::vector<float>());
  m.def("acts_bytes", &acts_bytes, nb::arg("rows"), nb::arg("cols"), "Bytes of quantized activations.");
  m.def("load_staging_bytes", &load_staging_bytes, nb::arg("source"), nb::arg("target"), nb::arg("cols"),
        "Bytes that each thread holds while it loads rows of so many columns.");
}

}  // namespace

void bind_runtime(nb::module_& m) {
  nb::exception<InputError>(m, "InputError", PyExc_ValueError);
  bind_program(m);
  bind_executor(m);
}
