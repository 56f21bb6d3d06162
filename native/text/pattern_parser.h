// Reads the pattern language into nodes (see pattern.h).
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "text/pattern.h"

namespace tonnage::text {

class PatternParser {
 public:
  PatternParser(std::string_view source, std::vector<CharClass>& classes, std::vector<Node>& nodes);

  // Returns the node to start from; node 0 accepts.
  uint32_t parse();

 private:
  // One element of a sequence, before it knows its successor.
  struct Item {
    Node node;
    std::vector<std::vector<Item>> alternatives;
    bool optional = false;
  };
  using Sequence = std::vector<Item>;

  std::vector<Sequence> parse_alternatives();
  Sequence parse_sequence();
  Item parse_atom();
  Item parse_group();
  Item parse_look(bool negative, bool behind);
  Item look_item(Item item, bool negative, bool behind);
  CharClass not_newline();
  CharClass parse_class();
  uint32_t parse_member();
  void parse_quantifier(Item& item);
  void parse_bounds(Item& item);
  // Reads the part behind a backslash: true when it was a set, added to `cls`, else *code_point is it.
  bool parse_escape(CharClass& cls, uint32_t* code_point);
  uint32_t parse_property(bool negative);
  uint32_t parse_hex(uint32_t max_digits);
  uint32_t parse_number();
  Item class_item(CharClass cls);

  uint32_t link(const Sequence& sequence, uint32_t next);
  uint32_t link_alternatives(const Item& item, uint32_t next);
  uint32_t push(Node node);

  bool done() const { return at_ >= source_.size(); }
  char peek() const { return done() ? '\0' : source_[at_]; }
  bool take(std::string_view text);
  uint32_t take_rune();
  [[noreturn]] void fail(const std::string& what) const;

  std::string_view source_;
  std::vector<CharClass>& classes_;
  std::vector<Node>& nodes_;
  size_t at_ = 0;
  uint32_t depth_ = 0;
  bool fold_ = false;
};

}  // namespace tonnage::text
