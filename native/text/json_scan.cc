#include "text/json_scan.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>

namespace tonnage::text {

namespace {

constexpr size_t kWindow = size_t{1} << 20;
constexpr size_t kPage = 4096;
constexpr int kMaxDepth = 512;

// Compared one by one: a call of strchr per byte was a quarter of the time that a vocabulary takes.
bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t' || c == '\r'; }

bool is_bare(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || c == '-' || c == '+' || c == '.' || c == 'E';
}

}  // namespace

JsonFile::JsonFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info {};
  if (fd < 0 || fstat(fd, &info) != 0) {
    const std::string reason = std::strerror(errno);
    if (fd >= 0) close(fd);
    throw TextError("'" + path + "' cannot be read: " + reason + ".");
  }
  size_ = static_cast<size_t>(info.st_size);
  if (!S_ISREG(info.st_mode) || size_ == 0 || size_ > kMaxBytes) {
    close(fd);
    throw TextError("'" + path + "' is not a JSON file of 1 byte to 1 GiB (it has " + std::to_string(size_) + " bytes).");
  }
  void* mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
  close(fd);
  if (mapped == MAP_FAILED) throw TextError("'" + path + "' cannot be mapped: " + std::strerror(errno) + ".");
  data_ = static_cast<const char*>(mapped);
}

JsonFile::~JsonFile() { munmap(const_cast<char*>(data_), size_); }

void JsonFile::passed(size_t position) {
  if (position < given_back_) given_back_ = position / kPage * kPage;  // a new pass
  if (position - given_back_ < kWindow) return;
  const size_t until = position / kPage * kPage;
  madvise(const_cast<char*>(data_) + given_back_, until - given_back_, MADV_DONTNEED);
  given_back_ = until;
}

JsonCursor::JsonCursor(JsonFile& file, size_t offset) : file_(file), text_(file.text()), at_(offset) {
  if (offset > text_.size()) fail("nothing");
}

void JsonCursor::fail(const char* what) const {
  throw TextError("The JSON file has " + std::string(what) + " at byte " + std::to_string(at_) + ".");
}

char JsonCursor::peek() {
  while (at_ < text_.size() && is_space(text_[at_])) ++at_;
  return at_ < text_.size() ? text_[at_] : '\0';
}

void JsonCursor::expect(char c) {
  if (peek() != c) fail((std::string("no '") + c + "'").c_str());
  ++at_;
}

bool JsonCursor::take(char c) {
  if (peek() != c) return false;
  ++at_;
  return true;
}

void JsonCursor::skip_string() {
  for (++at_; at_ < text_.size(); ++at_) {
    if (text_[at_] == '"') {
      ++at_;
      file_.passed(at_);
      return;
    }
    if (text_[at_] == '\\') ++at_;
  }
  fail("an unclosed string");
}

void JsonCursor::skip_bare() {
  const size_t from = at_;
  while (at_ < text_.size() && is_bare(text_[at_])) ++at_;
  if (at_ == from) fail("no value");
}

void JsonCursor::skip_value() {
  int depth = 0;
  do {
    switch (peek()) {
      case '"': skip_string(); break;
      case '{': case '[':
        if (++depth > kMaxDepth) fail("too deep nesting");
        ++at_;
        break;
      case '}': case ']':
        if (--depth < 0) fail("an unexpected bracket");
        ++at_;
        break;
      case ',': case ':':
        if (depth == 0) fail("no value");
        ++at_;
        break;
      default: skip_bare();
    }
  } while (depth > 0);
}

uint32_t JsonCursor::take_hex4() {
  uint32_t value = 0;
  for (int i = 0; i < 4; ++i, ++at_) {
    const char c = at_ < text_.size() ? text_[at_] : '\0';
    const char lower = static_cast<char>(c | 32);
    if (c >= '0' && c <= '9') value = value * 16 + static_cast<uint32_t>(c - '0');
    else if (lower >= 'a' && lower <= 'f') value = value * 16 + static_cast<uint32_t>(lower - 'a' + 10);
    else fail("a bad \\u escape");
  }
  return value;
}

void JsonCursor::take_escape(std::string& out) {
  const char c = at_ < text_.size() ? text_[at_++] : '\0';
  constexpr std::string_view names = "\"\\/bfnrt";
  constexpr std::string_view values = "\"\\/\b\f\n\r\t";
  const size_t which = names.find(c);
  if (which != std::string_view::npos && c != '\0') {
    out.push_back(values[which]);
    return;
  }
  if (c != 'u') fail("a bad escape");
  uint32_t code_point = take_hex4();
  if (code_point >= 0xD800 && code_point < 0xDC00 && text_.substr(at_, 2) == "\\u") {
    at_ += 2;
    const uint32_t low = take_hex4();
    if (low < 0xDC00 || low > 0xDFFF) fail("half a surrogate pair");
    code_point = 0x10000 + ((code_point & 0x3FF) << 10) + (low & 0x3FF);
  }
  if (code_point >= 0xD800 && code_point < 0xE000) fail("half a surrogate pair");
  append_rune(out, code_point);
}

void JsonCursor::take_string(std::string& out) {
  out.clear();
  if (peek() != '"') fail("no string");
  ++at_;
  for (size_t from = at_; at_ < text_.size(); ++at_) {
    if (text_[at_] != '"' && text_[at_] != '\\') continue;
    out.append(text_, from, at_ - from);
    if (text_[at_++] == '"') {
      if (!is_utf8(out)) fail("a string that is not valid UTF-8");
      file_.passed(at_);
      return;
    }
    take_escape(out);
    from = at_--;
  }
  fail("an unclosed string");
}

uint64_t JsonCursor::take_number() {
  peek();
  uint64_t value = 0;
  const size_t from = at_;
  while (at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '9' && at_ - from < 16)
    value = value * 10 + static_cast<uint64_t>(text_[at_++] - '0');
  const char c = at_ < text_.size() ? text_[at_] : '\0';
  if (at_ == from || at_ - from > 15 || (c != ',' && c != '}' && c != ']' && c != ' ' && c != '\n' && c != '\r' && c != '\t'))
    fail("no whole number");
  return value;
}

// As serde_json reads it, which rounds twice: what is written with 17 digits may come out one bit away from the
// nearest number, and sums of such bits decide between equals.
double JsonCursor::take_real() {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  peek();
  const size_t from = at_;
  skip_bare();
  const std::string_view text = text_.substr(from, at_ - from);
  double nearest = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), nearest);
  if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(nearest)) fail("no number");
  uint64_t digits = 0;
  int exponent = 0;
  bool is_fraction = false, is_full = false;
  size_t i = text[0] == '-';
  for (; i < text.size() && (text[i] | 32) != 'e'; ++i) {
    if (text[i] == '.') {
      is_fraction = true;
      continue;
    }
    const auto digit = static_cast<uint64_t>(text[i] - '0');
    is_full = is_full || digits > (kMost - digit) / 10;
    if (!is_full) digits = digits * 10 + digit;
    if (is_full != is_fraction) exponent += is_full ? 1 : -1;
  }
  if (i < text.size()) exponent += std::atoi(std::string(text.substr(i + 1)).c_str());
  if (exponent < -308 || exponent > 308) return nearest;
  const double power = std::strtod(("1e" + std::to_string(std::abs(exponent))).c_str(), nullptr);
  const double value = exponent < 0 ? static_cast<double>(digits) / power : static_cast<double>(digits) * power;
  return text[0] == '-' ? -value : value;
}

bool JsonObject::next(std::string& key) {
  if (take('}')) return false;
  if (!first_) expect(',');
  first_ = false;
  take_string(key);
  expect(':');
  return true;
}

bool JsonArray::next() {
  if (take(']')) return false;
  if (!first_) expect(',');
  first_ = false;
  return true;
}

}  // namespace tonnage::text
