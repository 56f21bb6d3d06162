// The most probable cut of a piece into tokens (Kudo 2018), as the package tokenizers finds it.
#include <algorithm>

#include "text/tokenizer_core.h"
#include "text/work.h"

namespace tonnage::text {

namespace {

constexpr double kUnknownPenalty = 10;  // below the least probable token

size_t bucket_of(std::string_view text) {
  const uint32_t size = read_rune(text.data(), text.data() + text.size()).num_bytes;
  return hash_bytes(text.data(), size) % 4096;
}

}  // namespace

void TokenizerCore::find_longest_by_lead() {
  longest_by_lead_.assign(4096, 0);
  double least = 0;
  for (uint32_t id = 0; id < log_probabilities_.size(); ++id) {
    const std::string_view text = vocabulary_.text(id);
    least = id == 0 ? log_probabilities_[id] : std::min(least, log_probabilities_[id]);
    if (text.empty()) continue;
    uint16_t& longest = longest_by_lead_[bucket_of(text)];
    longest = std::max(longest, static_cast<uint16_t>(text.size()));
  }
  unknown_log_probability_ = least - kUnknownPenalty;
}

// Where no token goes on, all paths meet, and what lies before is decided.
void TokenizerCore::most_probable(Work& work, std::string_view piece) const {
  const auto meet = [&](double log_probability) {
    work.paths.clear();
    work.paths.push_back({log_probability, 0, 0});
  };
  meet(0);
  size_t begin = 0;
  for (size_t at = 0; at < piece.size();) {
    if (at > begin && work.paths.size() == at - begin + 1) {
      emit_path(work, piece, begin);
      meet(work.paths.back().log_probability);
      begin = at;
    }
    const size_t next = at + read_rune(piece.data() + at, piece.data() + piece.size()).num_bytes;
    extend_paths(work, piece, begin, at, next);
    at = next;
  }
  emit_path(work, piece, begin);
  emit_unknown(work, piece);
}

// Adds the tokens that begin at `at`, where a character of piece[at, next) begins.
void TokenizerCore::extend_paths(Work& work, std::string_view piece, size_t begin, size_t at, size_t next) const {
  const double so_far = work.paths[at - begin].log_probability;
  const auto reach = [&](size_t end, double log_probability, int32_t id) {
    if (work.paths.size() < end - begin + 1) work.paths.resize(end - begin + 1);
    PathEnd& path = work.paths[end - begin];
    if (path.id < 0 || log_probability > path.log_probability)
      path = {log_probability, static_cast<uint32_t>(end - at), id};
  };
  bool is_token = false;
  const size_t last = std::min(piece.size(), at + longest_by_lead_[bucket_of(piece.substr(at))]);
  for (size_t end = next; end <= last;) {
    const int32_t id = vocabulary_.find(piece.substr(at, end - at));
    if (id >= 0) reach(end, log_probabilities_[static_cast<size_t>(id)] + so_far, id);
    is_token = is_token || (id >= 0 && end == next);
    if (end == piece.size()) break;
    end += read_rune(piece.data() + end, piece.data() + piece.size()).num_bytes;
  }
  if (!is_token) reach(next, unknown_log_probability_ + so_far, required_unknown(piece.substr(at, next - at)));
}

// Emits the path that ends where work.paths does; a run of unknown characters may go on behind it.
void TokenizerCore::emit_path(Work& work, std::string_view piece, size_t begin) const {
  work.path.clear();
  for (size_t i = work.paths.size() - 1; i > 0; i -= work.paths[i].begin) work.path.push_back(work.paths[i]);
  size_t at = begin;
  for (auto token = work.path.rbegin(); token != work.path.rend(); ++token) {
    const size_t end = at + token->begin;
    if (token->id == options_.unknown_id) {
      if (work.unknown_begin == work.unknown_end) work.unknown_begin = at;
      work.unknown_end = end;
    } else {
      emit_unknown(work, piece);
      work.out.push_back(token->id);
    }
    at = end;
  }
}

void TokenizerCore::emit_unknown(Work& work, std::string_view piece) const {
  const std::string_view run = piece.substr(work.unknown_begin, work.unknown_end - work.unknown_begin);
  work.unknown_begin = work.unknown_end = 0;
  if (run.empty()) return;
  const int32_t id = vocabulary_.find(run);
  if (id >= 0) return work.out.push_back(id);
  bool all = options_.byte_fallback;
  for (const char c : run) all = all && byte_ids_[static_cast<uint8_t>(c)] >= 0;
  if (!all) return work.out.push_back(options_.unknown_id);
  for (const char c : run) work.out.push_back(byte_ids_[static_cast<uint8_t>(c)]);
}

}  // namespace tonnage::text
