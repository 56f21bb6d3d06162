// The Python module: each part of the core registers its own face.
#include <nanobind/nanobind.h>

namespace nb = nanobind;

void bind_scan(nb::module_& m);
void bind_text(nb::module_& m);

NB_MODULE(_native, m) {
  m.doc() = "Native core of Tonnage.";
  bind_scan(m);
  bind_text(m);
}
