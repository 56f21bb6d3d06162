#include "text/pre_tokenizer.h"

#include "text/byte_alphabet.h"

namespace tonnage::text {

namespace {

struct Span {
  const char* begin;
  const char* end;
  bool is_match;
};

// Calls visit(begin, end, is_match) for the matches and the gaps between them, which cover [p, end). An empty match
// cuts a gap, and none follows a match at once, as in the library oniguruma.
template <class Visit>
void for_spans(const Pattern& pattern, const char* p, const char* end, uint64_t& budget, Visit visit) {
  const char* begin = p;
  const char* gap = p;
  const char* last = nullptr;
  while (p < end) {
    const char* stop = pattern.match(begin, p, end, budget);
    if (stop == nullptr || (stop == p && p == last)) {
      p += read_rune(p, end).num_bytes;
      continue;
    }
    if (gap < p) visit(gap, p, false);
    visit(p, stop, true);
    gap = last = stop;
    p = stop == p ? p + read_rune(p, end).num_bytes : stop;
  }
  if (gap < end) visit(gap, end, false);
}

std::vector<Span> merged(const std::vector<Span>& spans, StepSpec::Behavior behavior) {
  std::vector<Span> result;
  const bool backwards = behavior == StepSpec::kMergedWithNext;
  bool previous = false;
  for (size_t i = 0; i < spans.size(); ++i) {
    const Span& span = spans[backwards ? spans.size() - 1 - i : i];
    const bool joins = behavior == StepSpec::kContiguous ? span.is_match == previous : span.is_match && !previous;
    previous = span.is_match;
    if (!joins || result.empty()) result.push_back(span);
    else if (backwards) result.back().begin = span.begin;
    else result.back().end = span.end;
  }
  return backwards ? std::vector<Span>(result.rbegin(), result.rend()) : result;
}

}  // namespace

PreTokenizer::PreTokenizer(std::vector<StepSpec> steps) {
  for (StepSpec& spec : steps) {
    Step step{std::move(spec), std::nullopt};
    if (step.kind == StepSpec::kSplit) step.pattern.emplace(step.text);
    steps_.push_back(std::move(step));
  }
}

bool PreTokenizer::splits() const {
  for (const Step& step : steps_)
    if (step.kind == StepSpec::kSplit) return true;
  return false;
}

void PreTokenizer::run(std::string_view text, bool at_start, std::deque<std::string>& owned, const Sink& sink) const {
  Run run{at_start ? text.data() : nullptr, Pattern::budget_for(text.size()), owned, sink};
  apply(run, 0, text.data(), text.data() + text.size());
}

void PreTokenizer::apply(Run& run, size_t index, const char* p, const char* end) const {
  if (p == end) return;
  if (index == steps_.size()) return run.sink(p, end);
  const Step& step = steps_[index];
  if (step.kind != StepSpec::kSplit) return rewrite(run, index, p, end);
  if (step.behavior == StepSpec::kIsolated) return isolate(run, index, p, end);
  split(run, index, p, end);
}

void PreTokenizer::isolate(Run& run, size_t index, const char* p, const char* end) const {
  for_spans(*steps_[index].pattern, p, end, run.budget,
            [&](const char* begin, const char* stop, bool) { apply(run, index + 1, begin, stop); });
}

void PreTokenizer::split(Run& run, size_t index, const char* p, const char* end) const {
  const Step& step = steps_[index];
  const bool removes = step.behavior == StepSpec::kRemoved;
  std::vector<Span> spans;
  for_spans(*step.pattern, p, end, run.budget, [&](const char* begin, const char* stop, bool is_match) {
    const bool counts = is_match != step.inverted;
    if (!removes) spans.push_back({begin, stop, counts});
    else if (!counts) apply(run, index + 1, begin, stop);
  });
  if (removes) return;
  for (const Span& span : merged(spans, step.behavior)) apply(run, index + 1, span.begin, span.end);
}

void PreTokenizer::rewrite(Run& run, size_t index, const char* p, const char* end) const {
  const Step& step = steps_[index];
  const std::string_view piece(p, static_cast<size_t>(end - p));
  const bool begins = p == run.start;
  if (step.kind == StepSpec::kPrefix) {
    const bool present = step.if_missing && piece.substr(0, step.text.size()) == step.text;
    if (present || (step.only_first && !begins)) return apply(run, index + 1, p, end);
  }
  std::string& text = run.owned.emplace_back();
  text.reserve(piece.size() + piece.size() / 2 + step.text.size());
  switch (step.kind) {
    case StepSpec::kPrefix: text.append(step.text).append(piece); break;
    case StepSpec::kSpaces:
      for (size_t from = 0, space = 0; space != std::string_view::npos; from = space + 1) {
        space = piece.find(' ', from);
        text.append(piece.substr(from, space - from));
        if (space == std::string_view::npos) break;
        text.append(step.text);
      }
      break;
    default:
      for (const char c : piece) append_letter(text, static_cast<uint8_t>(c));
  }
  if (begins) run.start = text.data();
  apply(run, index + 1, text.data(), text.data() + text.size());
}

}  // namespace tonnage::text
