#include "tonnage/isa.h"

#include <algorithm>

#include "tonnage/program.h"

#if defined(__x86_64__)
#define TONNAGE_CPU_HAS(feature) [] { return __builtin_cpu_supports(feature) != 0; }
#endif

#include "isa_table.h"

namespace tonnage {

namespace {

bool is_among(const InstructionSet& set, const std::set<std::string>& features) {
  return std::all_of(set.features.begin(), set.features.end(), [&](const Feature& one) { return features.count(one.name) > 0; });
}

const InstructionSet* find_isa(const std::string& name) {
  for (const InstructionSet& set : instruction_sets())
    if (set.name == name) return &set;
  return nullptr;
}

}  // namespace

const std::vector<InstructionSet>& instruction_sets() {
  static const std::vector<InstructionSet> sets = TONNAGE_INSTRUCTION_SETS;
  return sets;
}

std::set<std::string> cpu_features() {
  std::set<std::string> features;
  for (const InstructionSet& set : instruction_sets())
    for (const Feature& one : set.features)
      if (one.is_here()) features.insert(one.name);
  return features;
}

const InstructionSet& best_isa(const std::set<std::string>& features) {
  const auto& sets = instruction_sets();
  return *std::find_if(sets.rbegin(), sets.rend() - 1, [&](const InstructionSet& set) { return is_among(set, features); });
}

const InstructionSet& require_isa(const std::string& name) {
  const InstructionSet* set = find_isa(name);
  if (!set) throw InputError("the instruction set '" + name + "' is unknown to this build");
  if (!is_among(*set, cpu_features())) throw InputError("this CPU lacks the instruction set '" + name + "'");
  return *set;
}

bool has_isa(const std::string& name) {
  const InstructionSet* set = find_isa(name);
  return set && is_among(*set, cpu_features());
}

}  // namespace tonnage
