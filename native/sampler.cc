#include "tonnage/sampler.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <string>

#include "tonnage/falling_exp.h"
#include "tonnage/program.h"

namespace tonnage {

namespace {

// Larger logit first; equal ones by token id, so that a sample never depends on a sort's whims.
bool before(const std::pair<float, int32_t>& a, const std::pair<float, int32_t>& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

// SplitMix64 (Steele et al. 2014).
uint64_t splitmix64(uint64_t x) {
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

int32_t require_vocab(int32_t size) {
  if (size < 1) throw InputError("a vocabulary of " + std::to_string(size) + " tokens has nothing to sample");
  return size;
}

}  // namespace

Sampler::Sampler(int32_t vocab_size, SamplingParams params)
    : vocab_size_(require_vocab(vocab_size)), params_(std::move(params)), blocks_(vocab_size) {
  const SamplingParams& p = params_;
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

// The probability of a logit, relative to that of the best.
float Sampler::weight(float logit, float peak) const { return falling_exp((logit - peak) / params_.temperature); }

double Sampler::uniform() { return static_cast<double>(splitmix64(splitmix64(params_.seed) ^ num_sampled_) >> 11) * 0x1p-53; }

bool Sampler::adjusts() const {
  const bool repeats = params_.repetition_penalty != 1.0f && !(prompt_.empty() && generated_.empty());
  const bool counts = (params_.presence_penalty != 0 || params_.frequency_penalty != 0) && !generated_.empty();
  return repeats || counts || !params_.logit_bias.empty();
}

// Adds bias and penalties; calls note(token, logit before) for all that it may change, some twice.
template <class Note>
void Sampler::adjust(float* logits, const Note& note) const {
  for (const auto& [token, bias] : params_.logit_bias) {
    if (token < 0 || token >= vocab_size_) continue;
    note(token, logits[token]);
    logits[token] += bias;
  }
  if (params_.repetition_penalty != 1.0f) {
    const auto penalize = [&](int32_t token) {
      note(token, logits[token]);
      logits[token] = logits[token] > 0 ? logits[token] / params_.repetition_penalty
                                        : logits[token] * params_.repetition_penalty;
    };
    for (const auto& [token, count] : prompt_) penalize(token);
    for (const auto& [token, count] : generated_)
      if (!prompt_.contains(token)) penalize(token);
  }
  for (const auto& [token, count] : generated_) {
    note(token, logits[token]);
    logits[token] -= params_.presence_penalty + params_.frequency_penalty * static_cast<float>(count);
  }
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

// Takes out what the mask forbids. Words of 64 tokens that are allowed or forbidden as a whole, which most are, cost no test
// per token.
void Sampler::forbid(float* logits) {
  for (size_t w = 0; w < mask_.size(); ++w) {
    const uint64_t word = mask_[w];
    if (word == ~uint64_t{0}) continue;
    const size_t begin = 64 * w, end = std::min(begin + 64, static_cast<size_t>(vocab_size_));
    changed_[begin / LogitBlocks::kSize] = 1;
    for (size_t i = begin; i < end; ++i)
      if ((word >> (i - begin) & 1) == 0) logits[i] = -INFINITY;
  }
  mask_.clear();
}

// Lets candidates_ hold the logits from `floor` on, at most the `keep` best; those are in order if there are more. The
// floor rises to the worst of the best so far, which nearly every later block misses.
void Sampler::gather(const float* logits, float floor, size_t keep) {
  floor = std::max(floor, blocks_.floor_of(keep));
  candidates_.clear();
  for (int32_t b = 0; b < blocks_.count(); ++b) {
    if (blocks_.peak(b) < floor) continue;
    for (int32_t i = blocks_.begin(b); i < blocks_.end(b); ++i)
      if (logits[i] >= floor) candidates_.emplace_back(logits[i], i);
    if (candidates_.size() < 2 * keep + 64) continue;
    const auto last = candidates_.begin() + static_cast<std::ptrdiff_t>(keep) - 1;
    std::nth_element(candidates_.begin(), last, candidates_.end(), before);
    floor = last->first;
    candidates_.resize(keep);
  }
  if (keep >= static_cast<size_t>(vocab_size_)) return;
  const auto kept = candidates_.begin() + static_cast<std::ptrdiff_t>(std::min(keep, candidates_.size()));
  std::partial_sort(candidates_.begin(), kept, candidates_.end(), before);
  candidates_.erase(kept, candidates_.end());
}

// Brings the best candidates to the front that top-p and min-p leave, `total` being the weight of all there are;
// returns how many. Halves are told apart, not sorted, until few are in question.
size_t Sampler::num_left(float peak, double total) {
  const double wanted = params_.top_p < 1 ? params_.top_p * total : INFINITY;
  const auto at = [&](size_t i) { return candidates_.begin() + static_cast<std::ptrdiff_t>(i); };
  const auto share = [&](const auto& candidate) { return weight(candidate.first, peak); };
  size_t begin = 0, end = candidates_.size();
  double kept = 0;
  while (end - begin > 64 && wanted < INFINITY) {
    const size_t middle = begin + (end - begin) / 2;
    std::nth_element(at(begin), at(middle), at(end), before);
    double upper = 0;
    for (size_t i = begin; i < middle; ++i) upper += share(candidates_[i]);
    if (kept + upper < wanted) {
      kept += upper;
      begin = middle;
    } else {
      end = middle;
    }
  }
  if (wanted < INFINITY) {
    std::sort(at(begin), at(end), before);
    size_t count = begin;
    while (count < end && (count == 0 || kept < wanted)) kept += share(candidates_[count++]);
    end = count;
  }
  if (params_.min_p <= 0) return end;
  const auto last = std::partition(at(0), at(end), [&](const auto& one) { return share(one) >= params_.min_p; });
  return static_cast<size_t>(last - at(0));
}

// Samples from the first `count` candidates.
int32_t Sampler::sample_candidate(size_t count, float peak) {
  double total = 0;
  for (size_t i = 0; i < count; ++i) total += weight(candidates_[i].first, peak);
  double left = uniform() * total;
  for (size_t i = 0; i < count; ++i) {
    left -= weight(candidates_[i].first, peak);
    if (left < 0) return candidates_[i].second;
  }
  return candidates_[count - 1].second;
}

// Samples from the best that make up top_p of all. Few of them do, so ever more are looked at until they suffice.
int32_t Sampler::sample_nucleus(const float* logits, float peak) {
  const double total = blocks_.sum_weights(logits, peak, params_.temperature);
  const auto all = static_cast<size_t>(vocab_size_);
  for (float reach = -kNoWeight / 16;; reach *= 4) {
    gather(logits, peak - reach * params_.temperature, all);
    const size_t count = num_left(peak, total);
    // With min-p alone the first that it drops tells that the rest is dropped too.
    if (count < candidates_.size() || reach >= -kNoWeight) return sample_candidate(count, peak);
  }
}

int32_t Sampler::sample_token(const float* logits) {
  const int32_t best = blocks_.best(logits);
  const float peak = logits[best];
  if (params_.temperature <= 0 || peak == -INFINITY) return best;
  if (params_.top_k > 0) {
    // Below that nothing is ever sampled; leaving it out keeps the sort short.
    gather(logits, peak + kNoWeight * params_.temperature, static_cast<size_t>(params_.top_k));
    double total = 0;
    for (const auto& [logit, token] : candidates_) total += weight(logit, peak);
    return sample_candidate(num_left(peak, total), peak);
  }
  if (params_.top_p < 1 || params_.min_p > 0) return sample_nucleus(logits, peak);
  const double total = blocks_.sum_weights(logits, peak, params_.temperature);
  return blocks_.find(logits, peak, params_.temperature, uniform() * total);
}

void Sampler::report(const float* logits, int32_t num_top, double norm, Sampled& out) {
  if (num_top < 1) return;
  gather(logits, -INFINITY, static_cast<size_t>(std::min(num_top, vocab_size_)));
  if (candidates_.size() == static_cast<size_t>(vocab_size_)) std::sort(candidates_.begin(), candidates_.end(), before);
  for (const auto& [logit, token] : candidates_) out.top.emplace_back(token, static_cast<float>(logit - norm));
}

// Bias, penalties and mask; returns what the tokens they are for had before.
std::vector<std::pair<int32_t, float>> Sampler::change(float* logits) {
  std::vector<std::pair<int32_t, float>> raw;
  if (!adjusts() && mask_.empty()) return raw;
  changed_.assign(static_cast<size_t>(blocks_.count()), 0);
  if (adjusts())
    adjust(logits, [&](int32_t token, float logit) {
      raw.emplace_back(token, logit);
      changed_[token / LogitBlocks::kSize] = 1;
    });
  forbid(logits);
  blocks_.rescan(logits, changed_);
  return raw;
}

Sampled Sampler::sample(float* logits, int32_t num_top, const Kernels& kernels) {
  Sampled out;
  const bool with_logprobs = num_top >= 0;
  const bool usable = blocks_.scan(logits, kernels);
  const float peak = usable ? logits[blocks_.best(logits)] : NAN;
  if (!usable || (with_logprobs && peak == -INFINITY))
    throw InputError("the logits are not finite: the model's numbers overflowed; its weights may be damaged");
  const double norm = with_logprobs ? peak + std::log(blocks_.sum_weights(logits, peak, 1.0f)) : 0;
  report(logits, num_top, norm, out);
  const auto raw = change(logits);
  out.token = sample_token(logits);
  // The first entry of a token is from before any change.
  const auto own = std::find_if(raw.begin(), raw.end(), [&](const auto& entry) { return entry.first == out.token; });
  const float logit = own == raw.end() ? logits[out.token] : own->second;
  out.logprob = with_logprobs ? static_cast<float>(logit - norm) : NAN;
  ++generated_[out.token];
  ++num_sampled_;
  return out;
}

std::vector<SampleResult> sample_rows(const OnTeam& on_team, const std::vector<SampleRow>& rows, const Kernels& kernels) {
  std::vector<SampleResult> sampled(rows.size());
  std::atomic<size_t> next{0};
  const auto work = [&](int) {
    for (size_t i = next.fetch_add(1); i < rows.size(); i = next.fetch_add(1)) {
      try {
        sampled[i] = rows[i].sampler->sample(rows[i].logits, rows[i].num_top, kernels);
      } catch (const std::exception& error) {
        sampled[i] = std::string(error.what());
      }
    }
  };
  if (rows.size() > 1)
    on_team(work);
  else
    work(0);
  return sampled;
}

}  // namespace tonnage
