// Hashing of short strings and of pairs, and the slot arrays that store 24-bit numbers.
#pragma once

#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "text/unicode.h"

namespace tonnage::text {

constexpr uint64_t kHashFactor = 0x9E3779B97F4A7C15ull;

inline uint64_t mix(uint64_t h) {
  h ^= h >> 32;
  h *= 0xD6E8FEB86659FD93ull;
  return h ^ h >> 29;
}

inline uint64_t hash_bytes(const char* p, size_t size) {
  uint64_t h = size * kHashFactor;
  for (; size >= 8; p += 8, size -= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    h = mix(h ^ word) * kHashFactor;
  }
  uint64_t tail = 0;
  std::memcpy(&tail, p, size);
  return mix((h ^ tail) * kHashFactor);
}

inline uint64_t hash_pair(uint32_t left, uint32_t right) {
  return mix((uint64_t{left} << 32 | right) * kHashFactor);
}

// Open addressing over 32-bit slots: an index below 2^24 - 1 and 8 bits of the hash, so that most misses
// touch nothing but the slots.
class SlotTable {
 public:
  static constexpr uint32_t kMaxItems = (1u << 24) - 1;
  static constexpr uint32_t kNone = kMaxItems;

  void reserve(uint32_t num_items) {
    slots_.assign(static_cast<size_t>(num_items) + num_items / 2 + 8, kEmpty);
  }

  // First index whose hash bits agree and for which same(index), else kNone.
  template <class Same>
  uint32_t find(uint64_t hash, Same same) const {
    if (slots_.empty()) return kNone;
    for (size_t i = home(hash);; i = i + 1 == slots_.size() ? 0 : i + 1) {
      const uint32_t slot = slots_[i];
      if (slot == kEmpty) return kNone;
      if ((slot >> 24) == tag(hash) && same(slot & kMaxItems)) return slot & kMaxItems;
    }
  }

  // Memory for num_items was reserved and the item is not in it yet. Throws TextError on a run of collisions
  // that chance does not make.
  void insert(uint64_t hash, uint32_t index) {
    size_t i = home(hash);
    for (uint32_t probes = 0; slots_[i] != kEmpty; i = i + 1 == slots_.size() ? 0 : i + 1)
      if (++probes > kMaxProbes) throw TextError("The vocabulary was made to collide in a hash table; it cannot be used.");
    slots_[i] = tag(hash) << 24 | index;
  }

  // Puts `index` where find(hash, same) found another.
  template <class Same>
  void replace(uint64_t hash, Same same, uint32_t index) {
    size_t i = home(hash);
    while ((slots_[i] >> 24) != tag(hash) || !same(slots_[i] & kMaxItems)) i = i + 1 == slots_.size() ? 0 : i + 1;
    slots_[i] = tag(hash) << 24 | index;
  }

  size_t nbytes() const { return slots_.capacity() * sizeof(uint32_t); }

 private:
  // The tag 255 with the index 2^24 - 1 never occurs.
  static constexpr uint32_t kEmpty = 0xFFFFFFFFu;
  static constexpr uint32_t kMaxProbes = 2048;

  static uint32_t tag(uint64_t hash) { return static_cast<uint32_t>(hash & 0xFF); }
  size_t home(uint64_t hash) const {
    return static_cast<size_t>((hash >> 32) * static_cast<uint64_t>(slots_.size()) >> 32);
  }

  std::vector<uint32_t> slots_;
};

}  // namespace tonnage::text
