// Python binding of rewriting rows in another format.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <vector>

#include "tonnage/program.h"
#include "tonnage/requantize.h"

namespace nb = nanobind;
using namespace tonnage;

namespace {

constexpr int64_t kMaxCols = int64_t{1} << 31;

void require_formats(Layout from, Layout to, int64_t cols) {
  if (cols < 1 || cols > kMaxCols) throw InputError("requantize: the number of columns is " + std::to_string(cols));
  const bool whole = layout_shape(to).source_cols && cols % layout_shape(to).source_cols == 0;
  if (is_scaled(from) || !target_name(to) || !whole || !Requantizer::can(from, to, cols))
    throw InputError("requantize: rows of " + std::to_string(cols) + " columns cannot go from one format to the other");
}

// importance: float32 as bytes, one per column, or none.
std::vector<float> weights_of(const nb::bytes& importance, int64_t cols) {
  if (importance.size() && static_cast<int64_t>(importance.size()) != 4 * cols)
    throw InputError("requantize: importance has " + std::to_string(importance.size()) + " bytes, " + std::to_string(4 * cols) + " are needed");
  std::vector<float> weights(importance.size() / 4);
  if (!weights.empty()) std::memcpy(weights.data(), importance.data(), importance.size());
  for (float one : weights)
    if (!(one > 0 && one < 1e30f)) throw InputError("requantize: an importance is " + std::to_string(one) + ", it must be above 0");
  return weights;
}

nb::bytes requantize(Executor& executor, int32_t source, int32_t target, int64_t cols, nb::bytes data, nb::bytes importance) {
  const auto from = static_cast<Layout>(source), to = static_cast<Layout>(target);
  require_formats(from, to, cols);
  const int64_t row_bytes = source_row_bytes(from, cols), size = static_cast<int64_t>(data.size());
  if (size % row_bytes) throw InputError("requantize: " + std::to_string(size) + " bytes are no whole rows of " + std::to_string(row_bytes));
  const std::vector<float> weights = weights_of(importance, cols);
  const int64_t rows = size / row_bytes;
  std::vector<uint8_t> out(static_cast<size_t>(rows * source_row_bytes(to, cols)));
  int64_t bad = -1;
  {
    const auto* bytes = static_cast<const uint8_t*>(data.data());
    nb::gil_scoped_release release;
    bad = executor.requantize(from, to, rows, cols, bytes, weights.empty() ? nullptr : weights.data(), out.data());
  }
  if (bad >= 0)
    throw InputError("row " + std::to_string(bad) + " holds values that are not finite or exceed the scale of " + target_name(to));
  return nb::bytes(reinterpret_cast<const char*>(out.data()), out.size());
}

}  // namespace

void bind_requantize(nb::module_& m) {
  m.def("requantize", &requantize, nb::arg("executor"), nb::kw_only(), nb::arg("source"), nb::arg("target"), nb::arg("cols"),
        nb::arg("data"), nb::arg("importance") = nb::bytes("", 0), "Return rows of one format as rows of another.");
}
