#include "text/pattern_parser.h"

#include <limits>

namespace tonnage::text {

namespace {

constexpr uint32_t kUnbounded = std::numeric_limits<uint32_t>::max();
constexpr size_t kMaxSource = 4096;
constexpr uint32_t kMaxDepth = 16;
constexpr uint32_t kAllCategories = (1u << 31) - 1;

constexpr uint32_t bit(Category c) { return 1u << c; }

constexpr uint32_t kSpace = bit(kZs) | bit(kZl) | bit(kZp) | bit(kCw);
constexpr uint32_t kLetter = bit(kLu) | bit(kLl) | bit(kLt) | bit(kLm) | bit(kLo);
constexpr uint32_t kMark = bit(kMn) | bit(kMc) | bit(kMe);
constexpr uint32_t kNumber = bit(kNd) | bit(kNl) | bit(kNo);

// What oniguruma takes for a character of a word.
void add_word(CharClass& cls) {
  cls.add_categories(kLetter | kMark | bit(kNd) | bit(kNl) | bit(kPc));
  cls.add_range(0xB2, 0xB3);
  cls.add_range(0xB9, 0xB9);
  cls.add_range(0xBC, 0xBE);
  cls.add_range(0x24B6, 0x24E9);
  cls.add_range(0x1F130, 0x1F149);
  cls.add_range(0x1F150, 0x1F169);
  cls.add_range(0x1F170, 0x1F189);
}

struct Property {
  const char* name;
  uint32_t mask;
};

const Property kProperties[] = {
    {"L", kLetter}, {"M", kMark}, {"N", kNumber},
    {"P", bit(kPc) | bit(kPd) | bit(kPs) | bit(kPe) | bit(kPi) | bit(kPf) | bit(kPo)},
    {"S", bit(kSm) | bit(kSc) | bit(kSk) | bit(kSo)}, {"Z", bit(kZs) | bit(kZl) | bit(kZp)},
    {"Lu", bit(kLu)}, {"Ll", bit(kLl)}, {"Lt", bit(kLt)}, {"Lm", bit(kLm)}, {"Lo", bit(kLo)},
    {"Mn", bit(kMn)}, {"Mc", bit(kMc)}, {"Me", bit(kMe)}, {"Nd", bit(kNd)}, {"Nl", bit(kNl)},
    {"No", bit(kNo)}, {"Pc", bit(kPc)}, {"Pd", bit(kPd)}, {"Ps", bit(kPs)}, {"Pe", bit(kPe)},
    {"Pi", bit(kPi)}, {"Pf", bit(kPf)}, {"Po", bit(kPo)}, {"Sm", bit(kSm)}, {"Sc", bit(kSc)},
    {"Sk", bit(kSk)}, {"So", bit(kSo)}, {"Zs", bit(kZs)}, {"Zl", bit(kZl)}, {"Zp", bit(kZp)},
    {"Cc", bit(kCc) | bit(kCw)}, {"Cf", bit(kCf)},
};

}  // namespace

PatternParser::PatternParser(std::string_view source, std::vector<CharClass>& classes, std::vector<Node>& nodes)
    : source_(source), classes_(classes), nodes_(nodes) {
  if (source.size() > kMaxSource)
    throw TextError("A pre-tokenizer pattern of " + std::to_string(source.size()) + " bytes exceeds " +
                    std::to_string(kMaxSource) + ".");
  if (!is_utf8(source)) throw TextError("A pre-tokenizer pattern is not valid UTF-8.");
}

void PatternParser::fail(const std::string& what) const {
  throw TextError("The pre-tokenizer pattern '" + std::string(source_.substr(0, 200)) + "' has " + what +
                  " at byte " + std::to_string(at_) + ", which is not supported.");
}

uint32_t PatternParser::parse() {
  push(Node{});  // Node 0 accepts.
  Item whole;
  whole.alternatives = parse_alternatives();
  if (!done()) fail("an unbalanced ')'");
  return link_alternatives(whole, 0);
}

bool PatternParser::take(std::string_view text) {
  if (source_.substr(at_, text.size()) != text) return false;
  at_ += text.size();
  return true;
}

uint32_t PatternParser::take_rune() {
  if (done()) fail("an early end");
  const Rune rune = read_rune(source_.data() + at_, source_.data() + source_.size());
  at_ += rune.num_bytes;
  return rune.code_point;
}

std::vector<PatternParser::Sequence> PatternParser::parse_alternatives() {
  if (++depth_ > kMaxDepth) fail("too deep nesting");
  std::vector<Sequence> result;
  do result.push_back(parse_sequence());
  while (take("|"));
  --depth_;
  return result;
}

PatternParser::Sequence PatternParser::parse_sequence() {
  Sequence sequence;
  while (!done() && peek() != '|' && peek() != ')') {
    Item item = parse_atom();
    parse_quantifier(item);
    sequence.push_back(std::move(item));
  }
  return sequence;
}

PatternParser::Item PatternParser::class_item(CharClass cls) {
  if (fold_) cls.fold_case();
  cls.seal();
  Item item;
  item.node.kind = Node::kClass;
  item.node.cls = static_cast<uint32_t>(classes_.size());
  classes_.push_back(std::move(cls));
  return item;
}

PatternParser::Item PatternParser::parse_atom() {
  if (take("(")) return parse_group();
  if (take("[")) return class_item(parse_class());
  CharClass cls;
  if (take("\\W")) {
    add_word(cls);
    cls.negate();
    return class_item(std::move(cls));
  }
  if (take("\\")) {
    uint32_t code_point = 0;
    if (!parse_escape(cls, &code_point)) cls.add_range(code_point, code_point);
    return class_item(std::move(cls));
  }
  if (take(".")) return class_item(not_newline());
  if (take("^")) return look_item(class_item(not_newline()), true, true);
  if (take("$")) return look_item(class_item(not_newline()), true, false);
  if (std::string_view("*+?{").find(peek()) != std::string_view::npos)
    fail(std::string("'") + peek() + "'");
  const uint32_t code_point = take_rune();
  cls.add_range(code_point, code_point);
  return class_item(std::move(cls));
}

PatternParser::Item PatternParser::parse_group() {
  if (take("?!")) return parse_look(true, false);
  if (take("?=")) return parse_look(false, false);
  if (take("?<!")) return parse_look(true, true);
  if (take("?<=")) return parse_look(false, true);
  const bool outer = fold_;
  if (take("?i:"))
    fold_ = true;
  else if (!take("?:") && peek() == '?')
    fail("a group '(?'");
  Item item;
  item.node.kind = Node::kBranch;
  item.alternatives = parse_alternatives();
  if (!take(")")) fail("an unclosed '('");
  fold_ = outer;
  return item;
}

PatternParser::Item PatternParser::parse_look(bool negative, bool behind) {
  Item item = parse_atom();
  if (item.node.kind != Node::kClass || !take(")")) fail("a look at more than one class");
  return look_item(std::move(item), negative, behind);
}

PatternParser::Item PatternParser::look_item(Item item, bool negative, bool behind) {
  item.node.kind = Node::kLook;
  item.node.negative = negative;
  item.node.behind = behind;
  return item;
}

CharClass PatternParser::not_newline() {
  CharClass cls;
  cls.add_range(0, '\n' - 1);
  cls.add_range('\n' + 1, 0x10FFFF);
  return cls;
}

CharClass PatternParser::parse_class() {
  CharClass cls;
  if (take("^")) cls.negate();
  bool first = true;
  while (first || peek() != ']') {
    first = false;
    if (done()) fail("an unclosed '['");
    if (peek() == '[' || source_.substr(at_, 2) == "&&") fail("a nested class");
    uint32_t low = 0;
    if (take("\\")) {
      if (parse_escape(cls, &low)) continue;
    } else {
      low = take_rune();
    }
    uint32_t high = low;
    if (peek() == '-' && at_ + 1 < source_.size() && source_[at_ + 1] != ']') {
      ++at_;
      high = parse_member();
    }
    if (high < low) fail("a range that runs backwards");
    cls.add_range(low, high);
  }
  ++at_;
  return cls;
}

uint32_t PatternParser::parse_member() {
  if (!take("\\")) return take_rune();
  CharClass unused;
  uint32_t code_point = 0;
  if (parse_escape(unused, &code_point)) fail("a range that ends in a set");
  return code_point;
}

bool PatternParser::parse_escape(CharClass& cls, uint32_t* code_point) {
  const uint32_t letter = take_rune();
  switch (letter) {
    case 's': cls.add_categories(kSpace); return true;
    case 'S': cls.add_categories(kAllCategories & ~kSpace); return true;
    case 'd': cls.add_categories(bit(kNd)); return true;
    case 'D': cls.add_categories(kAllCategories & ~bit(kNd)); return true;
    case 'w': add_word(cls); return true;
    case 'p': cls.add_categories(parse_property(false)); return true;
    case 'P': cls.add_categories(parse_property(true)); return true;
    case 'r': *code_point = '\r'; return false;
    case 'n': *code_point = '\n'; return false;
    case 't': *code_point = '\t'; return false;
    case 'f': *code_point = '\f'; return false;
    case 'v': *code_point = '\v'; return false;
    case 'u': *code_point = parse_hex(4); return false;
    case 'x': *code_point = parse_hex(2); return false;
    default: break;
  }
  const bool alphanumeric = letter < 128 && ((letter | 32) - 'a' < 26u || letter - '0' < 10u);
  if (alphanumeric) fail(std::string("the escape '\\") + static_cast<char>(letter) + "'");
  *code_point = letter;
  return false;
}

uint32_t PatternParser::parse_property(bool negative) {
  if (!take("{")) fail("a property without '{'");
  if (take("^")) negative = !negative;
  const size_t close = source_.find('}', at_);
  if (close == std::string_view::npos) fail("an unclosed property");
  const std::string_view name = source_.substr(at_, close - at_);
  for (const Property& property : kProperties) {
    if (name != property.name) continue;
    at_ = close + 1;
    return negative ? kAllCategories & ~property.mask : property.mask;
  }
  fail("the property '" + std::string(name) + "'");
}

uint32_t PatternParser::parse_hex(uint32_t max_digits) {
  const bool braces = take("{");
  if (braces) max_digits = 6;
  uint32_t value = 0;
  uint32_t count = 0;
  for (; count < max_digits && !done(); ++count) {
    const char c = peek();
    const char lower = static_cast<char>(c | 32);
    if (c >= '0' && c <= '9') value = value * 16 + static_cast<uint32_t>(c - '0');
    else if (lower >= 'a' && lower <= 'f') value = value * 16 + static_cast<uint32_t>(lower - 'a' + 10);
    else break;
    ++at_;
  }
  if (count == 0 || value > 0x10FFFF || (braces && !take("}"))) fail("a bad hexadecimal escape");
  return value;
}

uint32_t PatternParser::parse_number() {
  uint32_t value = 0;
  const size_t from = at_;
  while (peek() >= '0' && peek() <= '9' && at_ - from < 4) value = value * 10 + static_cast<uint32_t>(source_[at_++] - '0');
  if (at_ == from) fail("a bad repetition");
  return value;
}

void PatternParser::parse_bounds(Item& item) {
  item.node.min = parse_number();
  item.node.max = item.node.min;
  if (take(",")) item.node.max = peek() == '}' ? kUnbounded : parse_number();
  if (!take("}") || item.node.max < item.node.min) fail("a bad repetition");
}

void PatternParser::parse_quantifier(Item& item) {
  bool braces = false;
  if (take("?")) item.node.min = 0;
  else if (take("*")) item.node.min = 0, item.node.max = kUnbounded;
  else if (take("+")) item.node.max = kUnbounded;
  else if (take("{")) parse_bounds(item), braces = true;
  else return;
  if (item.node.kind == Node::kBranch) {
    if (item.node.min != 0 || item.node.max != 1) fail("a repeated group");
    item.optional = true;
  } else if (item.node.kind == Node::kLook) {
    fail("a repeated look");
  }
  if (peek() == '+' && !braces && item.node.kind == Node::kClass) {
    ++at_;
    item.node.possessive = true;
  }
  if (std::string_view("?*+{").find(peek()) != std::string_view::npos && !done())
    fail("a quantifier on a quantifier");
}

uint32_t PatternParser::push(Node node) {
  nodes_.push_back(std::move(node));
  return static_cast<uint32_t>(nodes_.size() - 1);
}

uint32_t PatternParser::link(const Sequence& sequence, uint32_t next) {
  for (auto item = sequence.rbegin(); item != sequence.rend(); ++item) {
    if (item->node.kind == Node::kBranch) {
      next = link_alternatives(*item, next);
      continue;
    }
    Node node = item->node;
    node.next = next;
    next = push(std::move(node));
  }
  return next;
}

uint32_t PatternParser::link_alternatives(const Item& item, uint32_t next) {
  Node branch;
  branch.kind = Node::kBranch;
  for (const Sequence& sequence : item.alternatives) branch.branches.push_back(link(sequence, next));
  if (item.optional) branch.branches.push_back(next);
  return push(std::move(branch));
}

}  // namespace tonnage::text
