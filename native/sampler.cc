#include "tonnage/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace tonnage {

namespace {

int32_t largest(const float* logits, int32_t n) {
  int32_t best = 0;
  for (int32_t i = 1; i < n; ++i)
    if (logits[i] > logits[best]) best = i;
  return best;
}

double log_sum_exp(const float* logits, int32_t n, float peak) {
  double sum = 0;
  for (int32_t i = 0; i < n; ++i) sum += std::exp(static_cast<double>(logits[i] - peak));
  return static_cast<double>(peak) + std::log(sum);
}

// Larger logit first; equal ones by token id, so that a draw never depends on a sort's whims.
bool before(const std::pair<float, int32_t>& a, const std::pair<float, int32_t>& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

// SplitMix64 (Steele et al. 2014).
uint64_t mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

}  // namespace

Sampler::Sampler(int32_t vocab_size, SamplingParams params) : vocab_size_(vocab_size), params_(std::move(params)) {}

void Sampler::observe(int32_t token) { ++prompt_[token]; }

double Sampler::uniform() { return static_cast<double>(mix(mix(params_.seed) ^ drawn_) >> 11) * 0x1p-53; }

void Sampler::adjust(float* logits) const {
  for (const auto& [token, bias] : params_.logit_bias)
    if (token >= 0 && token < vocab_size_) logits[token] += bias;
  if (params_.repetition_penalty != 1.0f) {
    const auto shrink = [&](int32_t token) {
      logits[token] = logits[token] > 0 ? logits[token] / params_.repetition_penalty
                                        : logits[token] * params_.repetition_penalty;
    };
    for (const auto& [token, count] : prompt_) shrink(token);
    for (const auto& [token, count] : generated_)
      if (!prompt_.contains(token)) shrink(token);
  }
  for (const auto& [token, count] : generated_)
    logits[token] -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count);
}

int32_t Sampler::draw(const float* logits) {
  if (params_.temperature <= 0) return largest(logits, vocab_size_);
  const float peak = logits[largest(logits, vocab_size_)];
  // Below e^-40 of the best nothing is ever drawn; leaving it out keeps the sort short.
  const float floor = peak - 40 * params_.temperature;
  candidates_.clear();
  for (int32_t i = 0; i < vocab_size_; ++i)
    if (logits[i] >= floor) candidates_.emplace_back(logits[i], i);
  size_t keep = candidates_.size();
  if (params_.top_k > 0) keep = std::min(keep, static_cast<size_t>(params_.top_k));
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<std::ptrdiff_t>(keep), candidates_.end(), before);
  candidates_.resize(keep);
  double total = 0;
  for (auto& [value, token] : candidates_) {
    value = std::exp((value - peak) / params_.temperature);
    total += value;
  }
  double kept = 0;
  size_t count = 0;
  for (; count < keep; ++count) {
    if (count > 0 && (kept >= params_.top_p * total || candidates_[count].first < params_.min_p * candidates_[0].first)) break;
    kept += candidates_[count].first;
  }
  double left = uniform() * kept;
  for (size_t i = 0; i < count; ++i) {
    left -= candidates_[i].first;
    if (left < 0) return candidates_[i].second;
  }
  return candidates_[count - 1].second;
}

Sampled Sampler::sample(float* logits, int32_t num_top) {
  Sampled out;
  const float peak = logits[largest(logits, vocab_size_)];
  const double norm = log_sum_exp(logits, vocab_size_, peak);
  if (num_top > 0) {
    candidates_.clear();
    for (int32_t i = 0; i < vocab_size_; ++i) candidates_.emplace_back(logits[i], i);
    const auto count = std::min<std::ptrdiff_t>(num_top, vocab_size_);
    std::partial_sort(candidates_.begin(), candidates_.begin() + count, candidates_.end(), before);
    for (std::ptrdiff_t i = 0; i < count; ++i)
      out.top.emplace_back(candidates_[i].second, static_cast<float>(candidates_[i].first - norm));
  }
  std::vector<std::pair<int32_t, float>> raw;
  const auto remember = [&](const auto& map) {
    for (const auto& [token, unused] : map)
      if (token >= 0 && token < vocab_size_) raw.emplace_back(token, logits[token]);
  };
  remember(params_.logit_bias);
  remember(prompt_);
  remember(generated_);
  adjust(logits);
  out.token = draw(logits);
  float own = logits[out.token];
  for (const auto& [token, value] : raw)
    if (token == out.token) own = value;
  out.logprob = static_cast<float>(own - norm);
  ++generated_[out.token];
  ++drawn_;
  return out;
}

}  // namespace tonnage
