// Reading a large JSON file in place, one value after another, without building it in memory.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "text/unicode.h"

namespace tonnage::text {

// A file mapped read-only. Reading forward gives back the pages that lie behind, so that at most about
// 1 MiB of the file is resident at a time.
class JsonFile {
 public:
  static constexpr uint64_t kMaxBytes = uint64_t{1} << 30;

  // Throws TextError (cannot be read, empty, too large).
  explicit JsonFile(const std::string& path);
  ~JsonFile();
  JsonFile(const JsonFile&) = delete;
  JsonFile& operator=(const JsonFile&) = delete;

  std::string_view text() const { return {data_, size_}; }
  // Gives back the pages between the last position reported and this one, once they are worth it.
  void passed(size_t position);

 private:
  const char* data_ = nullptr;
  size_t size_ = 0;
  size_t given_back_ = 0;
};

// A position in the file. All members throw TextError at what is not JSON, with its offset.
class JsonCursor {
 public:
  JsonCursor(JsonFile& file, size_t offset);

  size_t offset() const { return at_; }
  // Next byte behind white space; '\0' at the end.
  char peek();
  void expect(char c);
  bool take(char c);
  void skip_value();
  void take_string(std::string& out);
  // A whole number below 2^53.
  uint64_t take_number();
  // A finite number.
  double take_real();

 private:
  void skip_string();
  void skip_bare();
  uint32_t take_hex4();
  void take_escape(std::string& out);
  [[noreturn]] void fail(const char* what) const;

  JsonFile& file_;
  std::string_view text_;
  size_t at_;
};

// Walks the members of the object at an offset: next() reads a key and stops before its value, which the
// caller takes from the cursor.
class JsonObject : public JsonCursor {
 public:
  JsonObject(JsonFile& file, size_t offset) : JsonCursor(file, offset) { expect('{'); }
  bool next(std::string& key);

 private:
  bool first_ = true;
};

// Walks the elements of the array at an offset in the same manner.
class JsonArray : public JsonCursor {
 public:
  JsonArray(JsonFile& file, size_t offset) : JsonCursor(file, offset) { expect('['); }
  bool next();

 private:
  bool first_ = true;
};

}  // namespace tonnage::text
