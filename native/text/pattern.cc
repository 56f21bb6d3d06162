#include "text/pattern.h"

#include "text/pattern_parser.h"

namespace tonnage::text {

namespace {

void spend(uint64_t& budget, uint64_t steps) {
  if (budget < steps) throw TextError("A pre-tokenizer pattern backtracks without bound; it cannot be used.");
  budget -= steps;
}

}  // namespace

bool CharClass::slow_has(uint32_t code_point) const {
  bool found = false;
  if (categories_ != 0) found = categories_ >> category_of(code_point) & 1;
  for (const auto& [first, last] : ranges_) found = found || (code_point >= first && code_point <= last);
  return found != negated_;
}

void CharClass::fold_case() {
  if (negated_) throw TextError("A pre-tokenizer pattern has a negated class under (?i:), which is not supported.");
  std::vector<std::pair<uint32_t, uint32_t>> more;
  for (uint32_t lower = 'a'; lower <= 'z'; ++lower) {
    if (!slow_has(lower) && !slow_has(lower - 32)) continue;
    more.emplace_back(lower, lower);
    more.emplace_back(lower - 32, lower - 32);
    if (lower == 's') more.emplace_back(0x17F, 0x17F);
    if (lower == 'k') more.emplace_back(0x212A, 0x212A);
  }
  ranges_.insert(ranges_.end(), more.begin(), more.end());
}

void CharClass::seal() {
  for (uint32_t c = 0; c < 128; ++c)
    if (slow_has(c)) ascii_[c >> 6] |= uint64_t{1} << (c & 63);
}

Pattern::Pattern(std::string_view source) { start_ = PatternParser(source, classes_, nodes_).parse(); }

const char* Pattern::match(const char* begin, const char* p, const char* end, uint64_t& budget) const {
  Run run{begin, end, budget};
  return walk(run, start_, p);
}

// Recursion is as deep as the pattern is long: nothing that loops contains a group.
const char* Pattern::walk(Run& run, uint32_t index, const char* p) const {
  while (true) {
    const Node& node = nodes_[index];
    switch (node.kind) {
      case Node::kAccept:
        return p;
      case Node::kBranch:
        for (size_t i = 0; i + 1 < node.branches.size(); ++i)
          if (const char* r = walk(run, node.branches[i], p)) return r;
        index = node.branches.back();
        continue;
      case Node::kLook: {
        const char* q = node.behind && p > run.begin ? previous_rune(run.begin, p) : p;
        const bool is_there = node.behind ? p > run.begin : p < run.end;
        const bool hit = is_there && classes_[node.cls].has(read_rune(q, run.end).code_point);
        if (hit == node.negative) return nullptr;
        index = node.next;
        continue;
      }
      case Node::kClass:
        return walk_class(run, node, p);
    }
  }
}

const char* Pattern::walk_class(Run& run, const Node& node, const char* p) const {
  const CharClass& cls = classes_[node.cls];
  uint32_t count = 0;
  const char* shortest = p;
  while (count < node.max && p < run.end) {
    const Rune rune = read_rune(p, run.end);
    if (!cls.has(rune.code_point)) break;
    p += rune.num_bytes;
    if (++count <= node.min) shortest = p;
  }
  spend(run.budget, count + 1);
  if (count < node.min) return nullptr;
  if (node.possessive || count == node.min) return walk(run, node.next, p);
  while (true) {
    spend(run.budget, 1);
    if (const char* r = walk(run, node.next, p)) return r;
    if (p <= shortest) return nullptr;
    p = previous_rune(shortest, p);
  }
}

}  // namespace tonnage::text
