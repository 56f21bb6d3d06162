// Models that look words up: WordPiece and WordLevel.
#include "text/tokenizer_core.h"
#include "text/work.h"

namespace tonnage::text {

int32_t TokenizerCore::required_unknown(std::string_view piece) const {
  if (options_.unknown_id >= 0) return options_.unknown_id;
  throw TextError("The text holds '" + std::string(piece.substr(0, 80)) +
                  "', which no token stands for, and the tokenizer has none for what is unknown.");
}

void TokenizerCore::longest_first(Work& work, std::string_view piece) const {
  const size_t first = work.out.size();
  uint32_t num_chars = 0;
  for (const char c : piece) num_chars += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  bool known = num_chars <= options_.max_word_chars;
  for (size_t at = 0; known && at < piece.size();) {
    int32_t id = -1;
    size_t end = piece.size();
    while (id < 0 && end > at) {
      work.buffer.assign(at > 0 ? options_.subword_prefix : std::string()).append(piece, at, end - at);
      id = vocabulary_.find(work.buffer);
      if (id < 0) end = static_cast<size_t>(previous_rune(piece.data() + at, piece.data() + end) - piece.data());
    }
    known = id >= 0;
    work.out.push_back(id);
    at = end;
  }
  if (known) return;
  work.out.resize(first);
  work.out.push_back(required_unknown(piece));
}

void TokenizerCore::whole_piece(Work& work, std::string_view piece) const {
  const int32_t id = vocabulary_.find(piece);
  work.out.push_back(id >= 0 ? id : required_unknown(piece));
}

}  // namespace tonnage::text
