// Python bindings of the sampler.
#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unordered_map.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <set>

#include "tonnage/isa.h"
#include "tonnage/program.h"
#include "tonnage/sampler.h"

namespace nb = nanobind;
using namespace tonnage;

namespace {

float* logits_of(const Arena& arena, int64_t offset, int32_t vocab, const Sampler& sampler) {
  if (vocab != sampler.vocab_size())
    throw InputError("the row has " + std::to_string(vocab) + " logits, the sampler " + std::to_string(sampler.vocab_size()));
  if (offset % 4) throw InputError("logits at byte " + std::to_string(offset) + " are not on a multiple of 4");
  return reinterpret_cast<float*>(arena.at(offset, int64_t{vocab} * 4));
}

Sampled sample(Sampler& sampler, Arena& arena, int64_t offset, int32_t vocab, int32_t num_top) {
  float* logits = logits_of(arena, offset, vocab, sampler);
  nb::gil_scoped_release release;
  return sampler.sample(logits, num_top);
}

// rows: (sampler, which row, num_top). `drawn` is a list of the caller's, so that an interrupt after the call loses nothing.
void draw(Executor& executor, const Arena& arena, int64_t offset, int32_t vocab,
          const std::vector<std::tuple<Sampler*, int64_t, int32_t>>& rows, nb::list drawn) {
  std::vector<Draw> draws;
  std::set<const void*> seen;
  for (const auto& [sampler, row, num_top] : rows) {
    if (!sampler) throw InputError("draw: a sampler is missing");
    if (row < 0 || row > kMaxRows) throw InputError("draw: the row is " + std::to_string(row));
    float* logits = logits_of(arena, offset + row * vocab * 4, vocab, *sampler);
    if (!seen.insert(sampler).second || !seen.insert(logits).second)
      throw InputError("draw: a sampler or row comes twice, at row " + std::to_string(row));
    draws.push_back({sampler, logits, num_top});
  }
  std::vector<Drawn> made;
  {
    nb::gil_scoped_release release;
    made = draw_rows([&](const auto& work) { executor.share(work); }, draws);
  }
  for (const Drawn& one : made) drawn.append(nb::cast(one));
}

}  // namespace

void bind_sampler(nb::module_& m) {
  nb::class_<SamplingParams>(m, "SamplingParams")
      .def(nb::init<>())
      .def_rw("temperature", &SamplingParams::temperature)
      .def_rw("top_k", &SamplingParams::top_k)
      .def_rw("top_p", &SamplingParams::top_p)
      .def_rw("min_p", &SamplingParams::min_p)
      .def_rw("repetition_penalty", &SamplingParams::repetition_penalty)
      .def_rw("presence_penalty", &SamplingParams::presence_penalty)
      .def_rw("frequency_penalty", &SamplingParams::frequency_penalty)
      .def_rw("seed", &SamplingParams::seed)
      .def_rw("logit_bias", &SamplingParams::logit_bias);
  nb::class_<Sampled>(m, "Sampled")
      .def_ro("token", &Sampled::token)
      .def_ro("logprob", &Sampled::logprob)
      .def_ro("top", &Sampled::top);
  nb::class_<Sampler>(m, "Sampler")
      .def("__init__", [](Sampler* s, int32_t vocab_size, SamplingParams params, const std::string& isa) {
        new (s) Sampler(vocab_size, std::move(params), (isa.empty() ? best_isa(cpu_features()) : require_isa(isa)).kernels);
      }, nb::arg("vocab_size"), nb::arg("params"), nb::arg("isa") = "", "isa: the best of this CPU unless said.")
      .def("observe", &Sampler::observe, nb::arg("token"))
      .def(
          "set_mask",
          [](Sampler& sampler, const nb::bytes& mask) { sampler.set_mask({mask.c_str(), mask.size()}); },
          nb::arg("mask"))
      .def("sample", &sample, nb::arg("arena"), nb::arg("offset"), nb::arg("vocab_size"), nb::arg("num_top"));
  m.def("draw", &draw, nb::arg("executor"), nb::arg("arena"), nb::arg("offset"), nb::arg("vocab_size"), nb::arg("rows"),
        nb::arg("drawn"),
        "Draw from rows of logits that lie side by side from offset on, (sampler, row, num_top) each, by the executor's team; "
        "extends drawn by what came of each: a Sampled, or why there is none.");
}
