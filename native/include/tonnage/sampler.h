// From logits to a token: penalties, temperature, truncation, a seeded draw.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <utility>
#include <vector>

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
  float logprob;  // of the model's own distribution, before any of the above
  std::vector<std::pair<int32_t, float>> top;
};

class Sampler {
 public:
  Sampler(int32_t vocab_size, SamplingParams params);

  // Counts a token of the prompt towards the repetition penalty.
  void observe(int32_t token);

  // Draws one token and counts it. logits is overwritten. The draw depends on the seed and on how many
  // were drawn before, on nothing else. Order: bias, penalties, temperature, top-k, top-p, min-p.
  Sampled sample(float* logits, int32_t num_top);

 private:
  void adjust(float* logits) const;
  int32_t draw(const float* logits);
  double uniform();

  int32_t vocab_size_;
  SamplingParams params_;
  uint64_t drawn_ = 0;
  std::unordered_map<int32_t, int32_t> generated_;
  std::unordered_map<int32_t, int32_t> prompt_;
  std::vector<std::pair<float, int32_t>> candidates_;
};

}  // namespace tonnage
