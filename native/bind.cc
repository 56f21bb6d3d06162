// The Python module: each part of the core registers what it offers.
#include <nanobind/nanobind.h>

namespace nb = nanobind;

void bind_isa(nb::module_& m);
void bind_probe(nb::module_& m);
void bind_requantize(nb::module_& m);
void bind_runtime(nb::module_& m);
void bind_sampler(nb::module_& m);
void bind_scan(nb::module_& m);
void bind_text(nb::module_& m);

NB_MODULE(_native, m) {
  m.doc() = "Native core of Tonnage.";
  bind_isa(m);
  bind_probe(m);
  bind_runtime(m);
  bind_requantize(m);
  bind_sampler(m);
  bind_scan(m);
  bind_text(m);
}
