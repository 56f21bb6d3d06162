// The instruction sets of this build, for Python.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/set.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <utility>

#include "tonnage/isa.h"

namespace nb = nanobind;
using namespace tonnage;

namespace {

std::vector<std::pair<std::string, std::set<std::string>>> names_and_features() {
  std::vector<std::pair<std::string, std::set<std::string>>> all;
  for (const InstructionSet& set : instruction_sets()) {
    all.push_back({set.name, {}});
    for (const Feature& one : set.features) all.back().second.insert(one.name);
  }
  return all;
}

}  // namespace

void bind_isa(nb::module_& m) {
  m.def("instruction_sets", &names_and_features,
        "Return (name, the features it needs as /proc/cpuinfo names them) of those that kernels are built for, "
        "from the least to the most preferred.");
  m.def("best_isa", [](const std::optional<std::set<std::string>>& features) {
    return best_isa(features ? *features : cpu_features()).name;
  }, nb::arg("features") = nb::none(),
        "Return the most preferred instruction set for a CPU with `features`; without them, for this CPU.");
  m.def("has_isa", &has_isa, nb::arg("isa"), "Return whether its kernels are built and this CPU can run them.");
}
