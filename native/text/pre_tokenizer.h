// Cutting a text into the pieces that a model encodes one by one.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/pattern.h"

namespace tonnage::text {

// One step as it is written: what it does to each piece of the step before.
struct StepSpec {
  enum Kind : uint8_t {
    kSplit,    // cuts at the matches of `text`, a pattern
    kSpaces,   // every ' ' becomes `text`
    kPrefix,   // `text` goes in front
    kLetters,  // bytes become letters of the byte alphabet
  };
  // What becomes of a match, by the names that the package tokenizers has for it.
  enum Behavior : uint8_t { kIsolated, kRemoved, kMergedWithPrevious, kMergedWithNext, kContiguous };

  Kind kind = kSplit;
  std::string text;
  Behavior behavior = kIsolated;
  bool inverted = false;    // the gaps count as the matches
  bool only_first = false;  // a prefix for the piece that begins the whole text alone
  bool if_missing = false;  // no prefix where the piece begins with it
};

class PreTokenizer {
 public:
  using Sink = std::function<void(const char* begin, const char* end)>;

  // Throws TextError (a pattern).
  explicit PreTokenizer(std::vector<StepSpec> steps);

  // Calls `sink` with the pieces of `text` in their order; at_start: it begins the whole text. The pieces lie in
  // `text` or in `owned`.
  void run(std::string_view text, bool at_start, std::deque<std::string>& owned, const Sink& sink) const;

  bool splits() const;

 private:
  struct Run {
    const char* start;  // of the piece that begins the whole text; nullptr: none does
    uint64_t budget;
    std::deque<std::string>& owned;
    const Sink& sink;
  };
  struct Step : StepSpec {
    std::optional<Pattern> pattern;
  };
  void apply(Run& run, size_t step, const char* p, const char* end) const;
  void isolate(Run& run, size_t step, const char* p, const char* end) const;
  void split(Run& run, size_t step, const char* p, const char* end) const;
  void rewrite(Run& run, size_t step, const char* p, const char* end) const;

  std::vector<Step> steps_;
};

}  // namespace tonnage::text
