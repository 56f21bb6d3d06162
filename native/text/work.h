// What one call of encode needs besides the tokenizer.
#pragma once

#include <cstring>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "text/hash.h"
#include "text/merge.h"

namespace tonnage::text {

// Words met before in the same text: where they stand in it and where their ids begin in the output.
class WordCache {
 public:
  static constexpr size_t kMaxWord = 32;

  // Short texts repeat too little to pay for the entries.
  explicit WordCache(size_t text_bytes) {
    if (text_bytes >= 8192) entries_.resize(4096);
  }
  bool holds(std::string_view word) const { return !entries_.empty() && word.size() > 1 && word.size() <= kMaxWord; }
  bool replay(std::string_view word, uint64_t hash, std::vector<int32_t>& out) const {
    const Entry& e = entries_[hash % entries_.size()];
    if (e.size != word.size() || std::memcmp(e.word, word.data(), e.size) != 0) return false;
    for (uint32_t i = 0; i < e.count; ++i) out.push_back(out[e.first + i]);
    return true;
  }
  void remember(std::string_view word, uint64_t hash, size_t first, size_t count) {
    entries_[hash % entries_.size()] = {word.data(), static_cast<uint32_t>(first), static_cast<uint16_t>(word.size()),
                                        static_cast<uint16_t>(count)};
  }

 private:
  struct Entry {
    const char* word = nullptr;
    uint32_t first = 0;
    uint16_t size = 0;
    uint16_t count = 0;
  };
  std::vector<Entry> entries_;
};

// The best path to a place of a text: its log probability, and the token that ends there.
struct PathEnd {
  double log_probability = 0;
  uint32_t begin = 0;  // of the token, in bytes before this place
  int32_t id = -1;     // -1: no path ends here
};

struct Work {
  std::vector<int32_t>& out;
  WordCache cache;
  MergeScratch scratch{};
  std::vector<PathEnd> paths{};  // paths[i]: to i bytes behind the last place that every path meets
  std::vector<PathEnd> path{};
  size_t unknown_begin = 0;  // of a run of unknown characters that is not emitted yet
  size_t unknown_end = 0;
  std::string buffer{};
};

}  // namespace tonnage::text
