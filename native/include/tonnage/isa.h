// The instruction sets of this build, as native/isa.table lists them, and which of them this CPU has.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "probe.h"
#include "tonnage/ops.h"

namespace tonnage {

struct Feature {
  const char* name;   // as in /proc/cpuinfo
  bool (*is_here)();  // asks this CPU
};

struct InstructionSet {
  const char* name;
  std::vector<Feature> features;  // what its kernels were compiled with
  const Kernels& kernels;
  const ProbeKernels& probes;
};

// From the least to the most preferred; the first needs no feature.
const std::vector<InstructionSet>& instruction_sets();

// The features of this CPU that some set needs.
std::set<std::string> cpu_features();

// Returns the most preferred set of those whose features are all in `features`.
const InstructionSet& best_isa(const std::set<std::string>& features);

// Returns the set with a name. Throws InputError when it is not built or this CPU lacks it.
const InstructionSet& require_isa(const std::string& name);

// Whether its kernels are built and this CPU can run them.
bool has_isa(const std::string& name);

}  // namespace tonnage
