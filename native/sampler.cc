#include "tonnage/sampler.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <string>

#include "tonnage/program.h"

namespace tonnage {

namespace {

// Reductions over lanes that the compiler turns into vectors; a plain running maximum waits for itself.
constexpr int kLanes = 16;

float maximum(const float* logits, int32_t n) {
  float lane[kLanes];
  std::fill(lane, lane + kLanes, logits[0]);
  int32_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int k = 0; k < kLanes; ++k) lane[k] = logits[i + k] > lane[k] ? logits[i + k] : lane[k];
  for (; i < n; ++i) lane[0] = std::max(lane[0], logits[i]);
  return *std::max_element(lane, lane + kLanes);
}

// The first token of the largest logit.
int32_t largest(const float* logits, int32_t n) {
  return static_cast<int32_t>(std::find(logits, logits + n, maximum(logits, n)) - logits);
}

// Minus infinity forbids a token; NaN and infinity mean that the model broke.
bool all_usable(const float* logits, int32_t n) {
  int32_t wrong = 0;
  for (int32_t i = 0; i < n; ++i) wrong += !(logits[i] < INFINITY);
  return wrong == 0;
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

namespace {

void require(bool holds, const char* name, float value, const char* range) {
  if (!holds) throw InputError(std::string(name) + " is " + std::to_string(value) + ", it must be " + range);
}

}  // namespace

Sampler::Sampler(int32_t vocab_size, SamplingParams params) : vocab_size_(vocab_size), params_(std::move(params)) {
  const SamplingParams& p = params_;
  if (vocab_size < 1) throw InputError("a vocabulary of " + std::to_string(vocab_size) + " tokens has nothing to draw");
  require(p.temperature >= 0 && std::isfinite(p.temperature), "temperature", p.temperature, "0 or more");
  require(p.top_p >= 0 && p.top_p <= 1, "top_p", p.top_p, "0 to 1");
  require(p.min_p >= 0 && p.min_p <= 1, "min_p", p.min_p, "0 to 1");
  const float repetition = p.repetition_penalty;
  require(repetition > 0 && std::isfinite(repetition), "repetition_penalty", repetition, "above 0");
  require(std::isfinite(p.presence_penalty), "presence_penalty", p.presence_penalty, "a finite number");
  require(std::isfinite(p.frequency_penalty), "frequency_penalty", p.frequency_penalty, "a finite number");
  for (const auto& [token, bias] : p.logit_bias)
    require(bias < INFINITY, "a logit bias", bias, "a number, or minus infinity");
}

void Sampler::observe(int32_t token) {
  if (token < 0 || token >= vocab_size_)
    throw InputError("token " + std::to_string(token) + " lies outside the vocabulary of " + std::to_string(vocab_size_));
  ++prompt_[token];
}

// The chance of a logit, relative to that of the best.
float Sampler::weight(float logit, float peak) const { return std::exp((logit - peak) / params_.temperature); }

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

void Sampler::set_mask(std::string_view mask) {
  const auto vocab = static_cast<size_t>(vocab_size_);
  mask_.assign((vocab + 63) / 64, 0);
  std::memcpy(mask_.data(), mask.data(), std::min(mask.size(), 8 * mask_.size()));
  if (vocab % 64 != 0) mask_.back() &= (uint64_t{1} << vocab % 64) - 1;
  if (std::all_of(mask_.begin(), mask_.end(), [](uint64_t word) { return word == 0; })) {
    mask_.clear();
    throw InputError("the mask allows no token at all");
  }
}

// Takes the mask's tokens out. Words of 64 tokens that are allowed or forbidden as a whole, which most are, cost no test
// per token.
void Sampler::forbid(float* logits) {
  for (size_t w = 0; w < mask_.size(); ++w) {
    const uint64_t word = mask_[w];
    if (word == ~uint64_t{0}) continue;
    const size_t begin = 64 * w, end = std::min(begin + 64, static_cast<size_t>(vocab_size_));
    for (size_t i = begin; i < end; ++i)
      if ((word >> (i - begin) & 1) == 0) logits[i] = -INFINITY;
  }
  mask_.clear();
}

// Lets candidates_ hold the logits from `floor` on, at most top_k of them. With a small top_k the floor
// rises to the worst of the best so far, which nearly every later logit misses.
void Sampler::gather(const float* logits, float floor) {
  const auto keep = params_.top_k > 0 ? static_cast<size_t>(params_.top_k) : static_cast<size_t>(vocab_size_);
  candidates_.clear();
  for (int32_t i = 0; i < vocab_size_; ++i) {
    if (logits[i] < floor) continue;
    candidates_.emplace_back(logits[i], i);
    if (candidates_.size() < 2 * keep + 64) continue;
    const auto last = candidates_.begin() + static_cast<std::ptrdiff_t>(keep) - 1;
    std::nth_element(candidates_.begin(), last, candidates_.end(), before);
    floor = last->first;
    candidates_.resize(keep);
  }
  if (params_.top_k <= 0) return;
  const auto kept = candidates_.begin() + static_cast<std::ptrdiff_t>(std::min(keep, candidates_.size()));
  std::partial_sort(candidates_.begin(), kept, candidates_.end(), before);
  candidates_.erase(kept, candidates_.end());
}

// Returns how many of the best candidates top-p and min-p leave; those are in order.
size_t Sampler::num_left(float peak, double total) {
  if (params_.top_p >= 1 && params_.min_p <= 0) return candidates_.size();
  double kept = 0;
  size_t sorted = 0;
  for (size_t count = 0; count < candidates_.size(); ++count) {
    if (count == sorted) {  // a short prefix is mostly enough, so sort no more than is looked at
      const auto begin = candidates_.begin() + static_cast<std::ptrdiff_t>(sorted);
      sorted = sorted < 1024 ? std::min(candidates_.size(), std::max<size_t>(64, 4 * sorted)) : candidates_.size();
      std::partial_sort(begin, candidates_.begin() + static_cast<std::ptrdiff_t>(sorted), candidates_.end(), before);
    }
    const float share = weight(candidates_[count].first, peak);
    if (count > 0 && (kept >= params_.top_p * total || share < params_.min_p)) return count;
    kept += share;
  }
  return candidates_.size();
}

int32_t Sampler::draw(const float* logits) {
  const int32_t best = largest(logits, vocab_size_);
  const float peak = logits[best];
  if (params_.temperature <= 0 || peak == -INFINITY) return best;
  // Below e^-40 of the best nothing is ever drawn; leaving it out keeps the sort short.
  gather(logits, peak - 40 * params_.temperature);
  double total = 0;
  for (const auto& [logit, token] : candidates_) total += weight(logit, peak);
  const size_t count = num_left(peak, total);
  if (count < candidates_.size()) {
    total = 0;
    for (size_t i = 0; i < count; ++i) total += weight(candidates_[i].first, peak);
  }
  double left = uniform() * total;
  for (size_t i = 0; i < count; ++i) {
    left -= weight(candidates_[i].first, peak);
    if (left < 0) return candidates_[i].second;
  }
  return candidates_[count - 1].second;
}

Sampled Sampler::sample(float* logits, int32_t num_top) {
  Sampled out;
  const bool with_logprobs = num_top >= 0;
  const double norm = with_logprobs ? log_sum_exp(logits, vocab_size_, maximum(logits, vocab_size_)) : 0;
  if (!std::isfinite(norm) || !all_usable(logits, vocab_size_))
    throw InputError("the logits are not finite: the model's numbers overflowed; its weights may be damaged");
  if (num_top > 0) {
    candidates_.clear();
    for (int32_t i = 0; i < vocab_size_; ++i) candidates_.emplace_back(logits[i], i);
    const auto count = std::min<std::ptrdiff_t>(num_top, vocab_size_);
    std::partial_sort(candidates_.begin(), candidates_.begin() + count, candidates_.end(), before);
    for (std::ptrdiff_t i = 0; i < count; ++i)
      out.top.emplace_back(candidates_[i].second, static_cast<float>(candidates_[i].first - norm));
  }
  std::vector<std::pair<int32_t, float>> raw;  // what adjust() is about to change
  const auto remember = [&](const auto& map) {
    for (const auto& [token, unused] : map)
      if (token >= 0 && token < vocab_size_) raw.emplace_back(token, logits[token]);
  };
  if (with_logprobs) {
    remember(params_.logit_bias);
    remember(prompt_);
    remember(generated_);
  }
  adjust(logits);
  forbid(logits);
  out.token = draw(logits);
  float own = logits[out.token];
  for (const auto& [token, value] : raw)
    if (token == out.token) own = value;
  out.logprob = with_logprobs ? static_cast<float>(own - norm) : NAN;
  ++generated_[out.token];
  ++drawn_;
  return out;
}

}  // namespace tonnage
