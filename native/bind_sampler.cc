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

Sampled sample(Sampler& sampler, const Arena& arena, int64_t offset, int32_t vocab, int32_t num_top, const std::string& isa) {
  float* logits = logits_of(arena, offset, vocab, sampler);
  const Kernels& kernels = (isa.empty() ? best_isa(cpu_features()) : require_isa(isa)).kernels;
  nb::gil_scoped_release release;
  return sampler.sample(logits, num_top, kernels);
}

// rows: (sampler, which row, num_top). `sampled` is a list of the caller's, so that an interrupt after the call loses nothing.
void sample_rows_of(Executor& executor, const Arena& arena, int64_t offset, int32_t vocab,
                    const std::vector<std::tuple<Sampler*, int64_t, int32_t>>& rows, nb::list sampled) {
  std::vector<SampleRow> wanted;
  std::set<const void*> seen;
  for (const auto& [sampler, row, num_top] : rows) {
    if (!sampler) throw InputError("sample_rows: a sampler is missing");
    if (row < 0 || row > kMaxRows) throw InputError("sample_rows: the row is " + std::to_string(row));
    float* logits = logits_of(arena, offset + row * vocab * 4, vocab, *sampler);
    if (!seen.insert(sampler).second || !seen.insert(logits).second)
      throw InputError("sample_rows: a sampler or row comes twice, at row " + std::to_string(row));
    wanted.push_back({sampler, logits, num_top});
  }
  std::vector<SampleResult> made;
  {
    nb::gil_scoped_release release;
    made = sample_rows([&](const auto& work) { executor.share(work); }, wanted, executor.kernels());
  }
  for (const SampleResult& one : made) sampled.append(nb::cast(one));
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
      .def(nb::init<int32_t, SamplingParams>(), nb::arg("vocab_size"), nb::arg("params"))
      .def("observe", &Sampler::observe, nb::arg("token"))
      .def(
          "set_mask",
          [](Sampler& sampler, const nb::bytes& mask) { sampler.set_mask({mask.c_str(), mask.size()}); },
          nb::arg("mask"))
      .def("sample", &sample, nb::arg("arena"), nb::arg("offset"), nb::arg("vocab_size"), nb::arg("num_top"), nb::arg("isa") = "",
           "isa: whose kernels look at the logits, the best of this CPU unless said.");
  m.def("sample_rows", &sample_rows_of, nb::arg("executor"), nb::arg("arena"), nb::arg("offset"), nb::arg("vocab_size"),
        nb::arg("rows"), nb::arg("sampled"),
        "Sample from rows of logits that lie side by side from offset on, (sampler, row, num_top) each, by the executor's team "
        "and kernels; extends sampled by what came of each: a Sampled, or why there is none.");
}
