// Text -> token ids and back, over a vocabulary read from GGUF arrays or tokenizer.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/json_scan.h"
#include "text/merge.h"
#include "text/pattern.h"
#include "text/specials.h"
#include "text/vocabulary.h"

namespace tonnage::text {

struct Options {
  bool byte_level = false;      // vocabulary in the byte alphabet; symbols are bytes
  bool by_score = false;        // SentencePiece merging by score, else by merge rank
  bool byte_fallback = false;   // a character without token becomes its <0xNN> tokens
  bool fuse_unknown = false;    // a run of unknown characters is one unknown token
  bool whole_word = false;      // a piece that is a token as it stands is not merged ("ignore_merges")
  bool escape_spaces = false;   // ' ' becomes U+2581
  int32_t unknown_id = -1;
  std::string unknown_token;  // names the unknown token where its id is not known yet
  // U+2581 in front of: nothing, text at the very start, every stretch between special tokens.
  enum Prefix : uint8_t { kNoPrefix, kFirst, kEvery } prefix = kNoPrefix;
  bool prefix_if_missing = false;
  std::vector<std::string> patterns;  // pre-tokenizers, each splitting the pieces of the one before
};

struct Stretch {  // of text between special tokens (id -1), or a special token
  size_t begin, end;
  int32_t id;
};

// The id of each text among `tokens` (as of load_gguf_tokens), or -1. Throws TextError.
std::vector<int32_t> ids_of_texts(std::string_view tokens, uint64_t count, const std::vector<std::string>& texts);

class TokenizerCore {
 public:
  explicit TokenizerCore(Options options);

  // `tokens` and `merges`: count strings, each a u64 length and bytes; `types` i32[count], `scores`
  // f32[count], either may be empty where the model does not need it. `controls`: ids of control tokens,
  // whatever their types say. Throw TextError.
  void load_gguf_tokens(std::string_view tokens, uint64_t count, std::string_view types, std::string_view scores,
                        const std::vector<uint32_t>& controls);
  void load_gguf_merges(std::string_view merges, uint64_t count);

  // The object at this offset of the file maps token text to id; the array, rank to "a b" or ["a", "b"].
  void load_json_vocabulary(JsonFile& file, size_t offset);
  void load_json_merges(JsonFile& file, size_t offset);

  // Makes `id` a special token of this text.
  void add_special(uint32_t id, std::string_view text, Kind kind, uint8_t eats);

  // To be called once, after everything is loaded and before anything is encoded.
  void finish();

  // The text must be below 2 GiB. Const and reentrant.
  std::vector<int32_t> encode(std::string_view text, bool parse_special) const;
  std::vector<Stretch> split(std::string_view text, bool parse_special) const;
  // Encodes one stretch without special tokens; `at_start`: it begins the text.
  void encode_plain(std::string_view text, bool at_start, std::vector<int32_t>& out) const;

  // Bytes that a token stands for; control tokens are their own text.
  std::string token_bytes(uint32_t id) const;
  // Id of a special or an ordinary token (raw bytes), or -1.
  int32_t find(std::string_view text) const;
  const Vocabulary& vocabulary() const { return vocabulary_; }
  size_t nbytes() const;

 private:
  struct Work;  // what one encode call needs

  struct MergeBuffers {
    std::string left, right, whole;
  };
  struct MergeIds {  // -1: no token
    int32_t left, right, result;
  };
  void set_aside(uint32_t id, std::string_view text);
  int32_t find_for_merge(std::string_view text);
  MergeIds merge_ids(std::string_view left, std::string_view right, MergeBuffers& buffers);
  std::string_view plain_form(std::string_view text, std::string& buffer) const;
  void index_bytes();
  void find_inner_spaces();

  void split_piece(Work& work, size_t step, const char* p, const char* end) const;
  void split_spaces(Work& work, const char* p, const char* end) const;
  void encode_piece(Work& work, const char* p, const char* end) const;
  void merge_piece(Work& work, std::string_view piece) const;
  void symbols_of_bytes(Work& work, std::string_view piece) const;
  void symbols_of_runes(Work& work, std::string_view piece) const;
  void push_unknown(Work& work, std::string_view piece, uint32_t start, uint32_t end) const;
  void merge(Work& work, std::string_view piece) const;
  void emit(Work& work, std::string_view piece) const;

  Options options_;
  std::vector<Pattern> patterns_;
  Vocabulary vocabulary_;
  MergeTable merges_;
  std::vector<float> scores_;
  SpecialTokens specials_;
  // While loading: byte-level tokens that only merges make plain ones.
  std::unordered_map<std::string, uint32_t> set_aside_;
  int32_t byte_ids_[256];
  bool splits_spaces_ = false;
  uint64_t inner_space_after_[2] = {0, 0};  // ASCII characters that a token has before an inner U+2581
  bool finished_ = false;
};

}  // namespace tonnage::text
