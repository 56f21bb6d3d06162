// Tokens and merges in flat arrays.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/hash.h"

namespace tonnage::text {

// Token types of GGUF.
enum Kind : uint8_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

constexpr uint32_t kMaxTokens = SlotTable::kMaxItems;
constexpr size_t kMaxTokenBytes = 65535;
constexpr uint32_t kNoMerge = 0xFFFFFFFFu;

// The tokens: id -> bytes and kind, and bytes -> id for those that merging may produce.
class Vocabulary {
 public:
  // Makes `num_tokens` empty unused tokens, of which text of about `num_bytes` in all is to come.
  void reserve(uint32_t num_tokens, size_t num_bytes);
  // Sets a token that is still empty, or replaces its text. Throws TextError (id, length).
  void set(uint32_t id, std::string_view text, Kind kind);
  void set_kind(uint32_t id, Kind kind) { kinds_[id] = kind; }
  // Adds ids up to and with `id`. At most kMaxTokens.
  void grow_to(uint32_t id);
  // Lets merging find the token. Throws TextError when the same text is there already.
  void index(uint32_t id);
  // The same, but the text means this token from now on.
  void index_last(uint32_t id);
  void shrink();

  uint32_t size() const { return static_cast<uint32_t>(starts_.size()); }
  std::string_view text(uint32_t id) const { return {blob_.data() + starts_[id], lengths_[id]}; }
  Kind kind(uint32_t id) const { return static_cast<Kind>(kinds_[id]); }
  // Id of an indexed token, or -1.
  int32_t find(std::string_view text) const {
    if (text.empty() || text.size() > longest_) return -1;
    const uint32_t id = slots_.find(hash_bytes(text.data(), text.size()),
                                    [&](uint32_t other) { return this->text(other) == text; });
    return id == SlotTable::kNone ? -1 : static_cast<int32_t>(id);
  }
  size_t nbytes() const;

 private:
  std::vector<char> blob_;
  std::vector<uint32_t> starts_;
  std::vector<uint16_t> lengths_;
  std::vector<uint8_t> kinds_;
  SlotTable slots_;
  size_t longest_ = 0;
};

// Merges by rank: (left id, right id) -> rank and the id of the result.
class MergeTable {
 public:
  struct Merge {
    uint32_t left, right, result;
  };

  void reserve(uint32_t num_merges);
  // Appends the merge of the next rank. A pair that is there already keeps its first rank.
  void add(uint32_t left, uint32_t right, uint32_t result);
  // Appends it likewise; a pair that is there already gets this rank.
  void add_last(uint32_t left, uint32_t right, uint32_t result);
  // Rank, or kNoMerge; *result is set with a rank.
  uint32_t find(uint32_t left, uint32_t right, uint32_t* result) const {
    const uint32_t rank = slots_.find(hash_pair(left, right), [&](uint32_t i) {
      return merges_[i].left == left && merges_[i].right == right;
    });
    if (rank == SlotTable::kNone) return kNoMerge;
    *result = merges_[rank].result;
    return rank;
  }
  uint32_t size() const { return static_cast<uint32_t>(merges_.size()); }
  uint32_t last_result() const { return merges_.back().result; }
  size_t nbytes() const { return merges_.capacity() * sizeof(Merge) + slots_.nbytes(); }

 private:
  std::vector<Merge> merges_;
  SlotTable slots_;
};

}  // namespace tonnage::text
