// Greedy merging of adjacent symbols, the lowest priority number first and the leftmost among equals.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "text/vocabulary.h"

namespace tonnage::text {

struct Symbol {
  int32_t id;          // -1: no token of its own
  uint32_t start;      // byte range in the piece
  uint32_t end;
  uint32_t priority;   // of the merge with the next symbol; kNoMerge: none
  uint32_t merged_id;  // its result
};

// Working memory, reused from piece to piece.
struct MergeScratch {
  std::vector<Symbol> symbols;
  std::vector<uint32_t> previous, next;
  std::vector<uint64_t> heap;
};

constexpr size_t kShortPiece = 24;

// Merges scratch.symbols in place; `rate(left, right)` sets left.priority and left.merged_id for a pair.
// Short pieces are scanned: faster than a heap, and the same result.
template <class Rate>
void merge_short(std::vector<Symbol>& symbols, Rate rate) {
  size_t n = symbols.size();
  for (size_t i = 0; i + 1 < n; ++i) rate(symbols[i], symbols[i + 1]);
  if (n > 0) symbols[n - 1].priority = kNoMerge;
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i)
      if (symbols[i].priority < symbols[best].priority) best = i;
    Symbol& left = symbols[best];
    if (left.priority == kNoMerge) break;
    left.id = static_cast<int32_t>(left.merged_id);
    left.end = symbols[best + 1].end;
    left.priority = kNoMerge;
    std::memmove(&symbols[best + 1], &symbols[best + 2], (n - best - 2) * sizeof(Symbol));
    --n;
    if (best + 1 < n) rate(left, symbols[best + 1]);
    if (best > 0) rate(symbols[best - 1], left);
  }
  symbols.resize(n);
}

// A linked list of symbols and a heap of (priority, position); an entry is stale, and skipped, when its
// symbol no longer has that priority. O(n log n).
template <class Rate>
void merge_long(MergeScratch& scratch, Rate rate) {
  constexpr uint32_t kEnd = 0xFFFFFFFFu;
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  const auto n = static_cast<uint32_t>(symbols.size());
  scratch.previous.resize(n);
  scratch.next.resize(n);
  heap.clear();
  const auto rank = [&](uint32_t i) {
    rate(symbols[i], symbols[scratch.next[i]]);
    if (symbols[i].priority != kNoMerge) heap.push_back(uint64_t{symbols[i].priority} << 32 | i);
    return symbols[i].priority != kNoMerge;
  };
  for (uint32_t i = 0; i < n; ++i) {
    scratch.previous[i] = i == 0 ? kEnd : i - 1;
    scratch.next[i] = i + 1 == n ? kEnd : i + 1;
    symbols[i].priority = kNoMerge;
  }
  for (uint32_t i = 0; i + 1 < n; ++i) rank(i);
  std::make_heap(heap.begin(), heap.end(), std::greater<>());
  const auto push = [&](uint32_t i) {
    if (rank(i)) std::push_heap(heap.begin(), heap.end(), std::greater<>());
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), std::greater<>());
    const auto i = static_cast<uint32_t>(heap.back());
    const auto priority = static_cast<uint32_t>(heap.back() >> 32);
    heap.pop_back();
    Symbol& left = symbols[i];
    if (left.priority != priority) continue;
    const uint32_t gone = scratch.next[i];
    left.id = static_cast<int32_t>(left.merged_id);
    left.end = symbols[gone].end;
    left.priority = kNoMerge;
    symbols[gone].priority = kNoMerge;
    scratch.next[i] = scratch.next[gone];
    if (scratch.next[i] != kEnd) {
      scratch.previous[scratch.next[i]] = i;
      push(i);
    }
    if (scratch.previous[i] != kEnd) push(scratch.previous[i]);
  }
  uint32_t kept = 0;
  for (uint32_t i = 0; i != kEnd && n > 0; i = scratch.next[i]) symbols[kept++] = symbols[i];
  symbols.resize(kept);
}

template <class Rate>
void merge_symbols(MergeScratch& scratch, Rate rate) {
  if (scratch.symbols.size() <= kShortPiece)
    merge_short(scratch.symbols, rate);
  else
    merge_long(scratch, rate);
}

}  // namespace tonnage::text
