// What the readers of containers take from here: strings of a GGUF header, which are too many for the interpreter, and
// the code books of its block formats.
#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstring>

#include "grids.h"

namespace nb = nanobind;
using namespace tonnage;

namespace {

// Returns the offset behind `count` strings (u64 length, bytes) that start at `offset`, or -1 - i when
// string i leaves the buffer.
int64_t scan_strings(nb::object source, uint64_t offset, uint64_t count) {
  Py_buffer view;
  if (PyObject_GetBuffer(source.ptr(), &view, PyBUF_SIMPLE) != 0) throw nb::python_error();
  const auto* data = static_cast<const uint8_t*>(view.buf);
  const auto size = static_cast<uint64_t>(view.len);
  int64_t result = -1;
  uint64_t i = 0;
  for (; i < count; ++i) {
    if (offset > size || size - offset < 8) break;
    uint64_t length;
    std::memcpy(&length, data + offset, 8);
    offset += 8;
    if (length > size - offset) break;
    offset += length;
  }
  result = i == count ? static_cast<int64_t>(offset) : -1 - static_cast<int64_t>(i);
  PyBuffer_Release(&view);
  return result;
}

template <int count> nb::bytes bytes_of(const uint16_t (&grid)[count]) { return nb::bytes(grid, sizeof grid); }

nb::dict grids() {
  nb::dict found;
  found["IQ2_XXS"] = bytes_of(kGridIq2Xxs);
  found["IQ2_XS"] = bytes_of(kGridIq2Xs);
  found["IQ2_S"] = bytes_of(kGridIq2S);
  found["IQ1_S"] = bytes_of(kGridIq1);
  found["IQ3_XXS"] = bytes_of(kGridIq3Xxs);
  found["IQ3_S"] = bytes_of(kGridIq3S);
  return found;
}

}  // namespace

void bind_scan(nb::module_& m) {
  m.def("scan_strings", &scan_strings, nb::arg("buffer"), nb::arg("offset"), nb::arg("count"),
        "Return the offset behind `count` length-prefixed strings, or -1 - i when string i does not fit.");
  m.def("grids", &grids, "Return the code books by the format that has them, u16 words as native/grids.h describes them.");
}
