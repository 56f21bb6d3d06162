#include "text/vocabulary.h"

#include <algorithm>

namespace tonnage::text {

void Vocabulary::reserve(uint32_t num_tokens, size_t num_bytes) {
  if (num_tokens > kMaxTokens)
    throw TextError("A vocabulary of " + std::to_string(num_tokens) + " tokens exceeds " +
                    std::to_string(kMaxTokens) + ".");
  blob_.reserve(num_bytes);
  starts_.assign(num_tokens, 0);
  lengths_.assign(num_tokens, 0);
  kinds_.assign(num_tokens, kUnused);
  slots_.reserve(num_tokens);
}

void Vocabulary::grow_to(uint32_t id) {
  if (id < size()) return;
  if (id >= kMaxTokens)
    throw TextError("Token id " + std::to_string(id) + " exceeds " + std::to_string(kMaxTokens - 1) + ".");
  starts_.resize(id + 1, 0);
  lengths_.resize(id + 1, 0);
  kinds_.resize(id + 1, kUnused);
}

void Vocabulary::set(uint32_t id, std::string_view text, Kind kind) {
  if (id >= size())
    throw TextError("Token id " + std::to_string(id) + " is outside the " + std::to_string(size()) + " tokens.");
  if (text.size() > kMaxTokenBytes)
    throw TextError("Token " + std::to_string(id) + " has " + std::to_string(text.size()) + " bytes; at most " +
                    std::to_string(kMaxTokenBytes) + " are supported.");
  if (blob_.size() + text.size() > 0xFFFFFFFFull) throw TextError("The vocabulary's text exceeds 4 GiB.");
  starts_[id] = static_cast<uint32_t>(blob_.size());
  lengths_[id] = static_cast<uint16_t>(text.size());
  kinds_[id] = kind;
  blob_.insert(blob_.end(), text.begin(), text.end());
}

void Vocabulary::index(uint32_t id) {
  const std::string_view token = text(id);
  const uint64_t hash = hash_bytes(token.data(), token.size());
  const uint32_t other = slots_.find(hash, [&](uint32_t i) { return text(i) == token; });
  if (other != SlotTable::kNone)
    throw TextError("Tokens " + std::to_string(other) + " and " + std::to_string(id) + " are the same text.");
  slots_.insert(hash, id);
  longest_ = std::max(longest_, token.size());
}

void Vocabulary::index_last(uint32_t id) {
  const std::string_view token = text(id);
  const uint64_t hash = hash_bytes(token.data(), token.size());
  const auto same = [&](uint32_t i) { return text(i) == token; };
  if (slots_.find(hash, same) == SlotTable::kNone) slots_.insert(hash, id);
  else slots_.replace(hash, same, id);
  longest_ = std::max(longest_, token.size());
}

void Vocabulary::shrink() { blob_.shrink_to_fit(); }

size_t Vocabulary::nbytes() const {
  return blob_.capacity() + starts_.capacity() * 4 + lengths_.capacity() * 2 + kinds_.capacity() + slots_.nbytes();
}

void MergeTable::reserve(uint32_t num_merges) {
  if (num_merges > SlotTable::kMaxItems)
    throw TextError(std::to_string(num_merges) + " merges exceed " + std::to_string(SlotTable::kMaxItems) + ".");
  merges_.reserve(num_merges);
  slots_.reserve(num_merges);
}

void MergeTable::add(uint32_t left, uint32_t right, uint32_t result) {
  uint32_t ignored;
  const bool known = find(left, right, &ignored) != kNoMerge;
  // A repeated pair still takes its rank, so that later ranks agree with the file's.
  merges_.push_back({left, right, result});
  if (!known) slots_.insert(hash_pair(left, right), static_cast<uint32_t>(merges_.size() - 1));
}

void MergeTable::add_last(uint32_t left, uint32_t right, uint32_t result) {
  const auto same = [&](uint32_t i) { return merges_[i].left == left && merges_[i].right == right; };
  const uint64_t hash = hash_pair(left, right);
  const bool known = slots_.find(hash, same) != SlotTable::kNone;
  if (known) slots_.replace(hash, same, size());
  else slots_.insert(hash, size());
  merges_.push_back({left, right, result});
}

}  // namespace tonnage::text
