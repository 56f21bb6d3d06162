// From logits to a token: penalties, temperature, truncation, a seeded sample.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "logit_blocks.h"

namespace tonnage {

struct SamplingParams {
  float temperature = 1.0f;  // 0 picks the largest logit
  int32_t top_k = 0;         // 0: all
  float top_p = 1.0f;
  float min_p = 0.0f;
  float repetition_penalty = 1.0f;  // Keskar et al. 2019; prompt and output
  float presence_penalty = 0.0f;    // OpenAI's definitions; output only
  float frequency_penalty = 0.0f;
  uint64_t seed = 0;
  std::unordered_map<int32_t, float> logit_bias;
};

struct Sampled {
  int32_t token;
  float logprob;  // of the model's own distribution, before any of the above; NaN unless asked for
  std::vector<std::pair<int32_t, float>> top;
};

class Sampler {
 public:
  // Throws InputError for parameters outside their ranges.
  Sampler(int32_t vocab_size, SamplingParams params);

  int32_t vocab_size() const { return vocab_size_; }

  // Counts a token of the prompt towards the repetition penalty. Throws InputError outside the vocabulary.
  void observe(int32_t token);

  // Allows, in the next sample alone, the tokens whose bits are set: token i is bit i % 8 of byte i / 8. A mask that is
  // shorter than the vocabulary forbids the rest. Throws InputError when it allows nothing.
  void set_mask(std::string_view mask);

  // Samples one token and counts it. num_top: -1 for no log probabilities (they cost a pass of exponentials),
  // else how many of the best to report beside the sampled one. logits is overwritten. kernels: all give the same bits.
  // The sample depends on the seed and on how many there were before, on nothing else. Order: bias, penalties, mask,
  // temperature, top-k, top-p, min-p. Throws InputError when the logits hold NaN or infinity instead of a distribution.
  Sampled sample(float* logits, int32_t num_top, const Kernels& kernels);

 private:
  bool adjusts() const;
  template <class Note>
  void adjust(float* logits, const Note& note) const;
  void forbid(float* logits);
  std::vector<std::pair<int32_t, float>> change(float* logits);
  void report(const float* logits, int32_t num_top, double norm, Sampled& out);
  void gather(const float* logits, float floor, size_t keep);
  size_t num_left(float peak, double total);
  int32_t sample_token(const float* logits);
  int32_t sample_nucleus(const float* logits, float peak);
  int32_t sample_candidate(size_t count, float peak);
  float weight(float logit, float peak) const;
  double uniform();

  int32_t vocab_size_;
  SamplingParams params_;
  LogitBlocks blocks_;
  uint64_t num_sampled_ = 0;
  std::vector<uint64_t> mask_;    // empty: every token is allowed
  std::vector<uint8_t> changed_;  // a byte per block
  std::unordered_map<int32_t, int32_t> generated_;
  std::unordered_map<int32_t, int32_t> prompt_;
  std::vector<std::pair<float, int32_t>> candidates_;
};

// One row of logits and who samples from it.
struct SampleRow {
  Sampler* sampler;
  float* logits;
  int32_t num_top;
};

// What was sampled, or why nothing could be.
using SampleResult = std::variant<Sampled, std::string>;
using OnTeam = std::function<void(const std::function<void(int)>&)>;

// Samples from all rows, whose samplers and logits are apart; several at a time where there are several. on_team: calls
// what it is given once in each thread of a team, and returns when all have ended.
std::vector<SampleResult> sample_rows(const OnTeam& on_team, const std::vector<SampleRow>& rows, const Kernels& kernels);

}  // namespace tonnage
