// Text -> token ids and back, over a vocabulary read from GGUF arrays or tokenizer.json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/json_scan.h"
#include "text/merge.h"
#include "text/pre_tokenizer.h"
#include "text/specials.h"
#include "text/vocabulary.h"

namespace tonnage::text {

struct Options {
  enum Model : uint8_t {
    kMerges,     // byte-pair encoding by the rank of merges
    kScores,     // SentencePiece's byte-pair encoding: by the score of what a merge makes
    kUnigram,    // the most probable cut into tokens
    kWordPiece,  // the longest token, then the longest that goes on, ...
    kWordLevel,  // a piece is a token
  } model = kMerges;
  bool byte_level = false;        // vocabulary in the byte alphabet; symbols are bytes
  bool byte_fallback = false;     // a character without token becomes its <0xNN> tokens
  bool fuse_unknown = false;      // a run of unknown characters is one unknown token
  bool whole_word = false;        // a piece that is a token as it stands is not merged ("ignore_merges")
  bool unescapes_spaces = false;  // decoding: U+2581 becomes ' '
  int32_t unknown_id = -1;
  std::string unknown_token;      // names the unknown token where its id is not known yet
  std::string subword_prefix;     // of a symbol that does not begin its piece
  std::string word_suffix;        // of a symbol that ends its piece
  uint32_t max_word_chars = 100;  // a longer piece is unknown to kWordPiece
  std::vector<StepSpec> steps;    // from a segment of text to pieces
};

struct Work;

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

  // The object at this offset of the file maps token text to id; the array, id to [text, log probability]; the
  // array, rank to "a b" or ["a", "b"].
  void load_json_vocabulary(JsonFile& file, size_t offset);
  void load_json_log_probabilities(JsonFile& file, size_t offset);
  void load_json_merges(JsonFile& file, size_t offset);
  // Merges as merges.txt has them, "a b" in a line each; lines that begin with "#version" are none.
  void load_text_merges(std::string_view text);

  // Makes `id`, or the id that the text has already, a special token of this text. normalized: what a normalizer
  // makes of it, if it is looked for in normalized text.
  void add_special(uint32_t id, std::string_view text, Kind kind, uint8_t manners, const std::string* normalized);

  // To be called once, after everything is loaded and before anything is encoded.
  void finish();

  // The text must be below 2 GiB. Const and reentrant.
  std::vector<int32_t> encode(std::string_view text, bool parse_special) const;
  // Cuts at the tokens that are found in text as it stands, and then at those that are found in normalized text, of
  // which `second` tells which are looked for; here they are found as they were written.
  enum Second : uint8_t { kNoSecond, kControlSecond, kSameSecond };
  std::vector<Segment> split(std::string_view text, bool parse_special, Second second) const;
  std::vector<Segment> split_normalized(std::string_view text, bool parse_special) const;
  bool has_normalized_specials() const { return !normalized_specials_.empty(); }
  // Encodes one segment without special tokens; `at_start`: it begins the text.
  void encode_plain(std::string_view text, bool at_start, std::vector<int32_t>& out) const;

  // Bytes that a token stands for; control tokens are their own text.
  std::string token_bytes(uint32_t id) const;
  // A token as the vocabulary has it, or as normalizing writes it.
  std::string_view token_text(uint32_t id) const;
  // Id of a special or an ordinary token (raw bytes), or -1.
  int32_t find(std::string_view text) const;
  const Vocabulary& vocabulary() const { return vocabulary_; }
  size_t nbytes() const;

 private:
  struct MergeBuffers {
    std::string left, right, whole;
  };
  struct MergeIds {  // -1: no token
    int32_t left, right, result;
  };
  void set_aside(uint32_t id, std::string_view text);
  int32_t find_for_merge(std::string_view text);
  void add_required_merge(uint64_t rank, std::string_view left, std::string_view right, MergeBuffers& buffers);
  MergeIds merge_ids(std::string_view left, std::string_view right, MergeBuffers& buffers);
  std::string_view plain_form(std::string_view text, std::string& buffer) const;
  void index_bytes();
  void find_inner_spaces();
  void find_longest_by_lead();

  void split_spaces(Work& work, const char* p, const char* end) const;
  void encode_piece(Work& work, const char* p, const char* end) const;
  void encode_new(Work& work, std::string_view piece) const;
  void symbols_of_bytes(Work& work, std::string_view piece) const;
  void symbols_of_runes(Work& work, std::string_view piece) const;
  int32_t find_symbol(Work& work, std::string_view piece, uint32_t start, uint32_t end) const;
  bool push_bytes(Work& work, std::string_view text, uint32_t start) const;
  void merge(Work& work, std::string_view piece) const;
  void emit(Work& work, std::string_view piece) const;

  void most_probable(Work& work, std::string_view piece) const;
  void extend_paths(Work& work, std::string_view piece, size_t begin, size_t at, size_t next) const;
  void emit_path(Work& work, std::string_view piece, size_t begin) const;
  void emit_unknown(Work& work, std::string_view text) const;
  void longest_first(Work& work, std::string_view piece) const;
  void whole_piece(Work& work, std::string_view piece) const;
  int32_t required_unknown(std::string_view piece) const;

  Options options_;
  PreTokenizer pre_tokenizer_;
  Vocabulary vocabulary_;
  MergeTable merges_;
  std::vector<float> scores_;
  std::vector<double> log_probabilities_;
  std::vector<uint16_t> longest_by_lead_;  // bytes of the longest token of each hash of a first character
  double unknown_log_probability_ = 0;
  SpecialTokens specials_;
  SpecialTokens normalized_specials_;  // as they stand in normalized text
  SpecialTokens normalized_names_;     // the same as they were written
  // While loading: byte-level tokens that only merges make plain ones.
  std::unordered_map<std::string, uint32_t> set_aside_;
  std::unordered_map<uint32_t, std::string> decoded_as_;  // special tokens that normalizing changes
  int32_t byte_ids_[256];
  bool splits_spaces_ = false;
  uint64_t inner_space_after_[2] = {0, 0};  // ASCII characters that a token has before an inner U+2581
  bool finished_ = false;
};

}  // namespace tonnage::text
