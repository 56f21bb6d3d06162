// Walking length-prefixed strings of a GGUF header, which is too slow in the interpreter.
#include <nanobind/nanobind.h>

#include <cstdint>
#include <cstring>

namespace nb = nanobind;

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

}  // namespace

void bind_scan(nb::module_& m) {
  m.def("scan_strings", &scan_strings, nb::arg("buffer"), nb::arg("offset"), nb::arg("count"),
        "Return the offset behind `count` length-prefixed strings, or -1 - i when string i does not fit.");
}
