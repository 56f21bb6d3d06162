// Python bindings of the tokenizer core.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "text/tokenizer_core.h"

namespace nb = nanobind;
using tonnage::text::JsonArray;
using tonnage::text::JsonCursor;
using tonnage::text::JsonFile;
using tonnage::text::JsonObject;
using tonnage::text::Kind;
using tonnage::text::Options;
using tonnage::text::Pattern;
using tonnage::text::StepSpec;
using tonnage::text::Segment;
using tonnage::text::TextError;
using tonnage::text::TokenizerCore;

namespace {

// A contiguous buffer held for the length of a call.
class Bytes {
 public:
  explicit Bytes(nb::handle source) {
    if (PyObject_GetBuffer(source.ptr(), &view_, PyBUF_SIMPLE) != 0) throw nb::python_error();
  }
  ~Bytes() { PyBuffer_Release(&view_); }
  Bytes(const Bytes&) = delete;
  Bytes& operator=(const Bytes&) = delete;
  std::string_view text() const { return {static_cast<const char*>(view_.buf), static_cast<size_t>(view_.len)}; }

 private:
  Py_buffer view_;
};

nb::list list_of(const std::vector<int32_t>& ids) {
  nb::list result = nb::steal<nb::list>(PyList_New(static_cast<Py_ssize_t>(ids.size())));
  if (!result.is_valid()) throw nb::python_error();
  for (size_t i = 0; i < ids.size(); ++i)
    PyList_SetItem(result.ptr(), static_cast<Py_ssize_t>(i), PyLong_FromLong(ids[i]));
  return result;
}

nb::bytes bytes_of(std::string_view text) { return nb::bytes(text.data(), text.size()); }

nb::list encode(const TokenizerCore& core, nb::handle source, bool parse_special) {
  const Bytes bytes(source);
  std::vector<int32_t> ids;
  {
    nb::gil_scoped_release unlocked;
    ids = core.encode(bytes.text(), parse_special);
  }
  return list_of(ids);
}

nb::list encode_plain(const TokenizerCore& core, nb::handle source, bool at_start) {
  const Bytes bytes(source);
  std::vector<int32_t> ids;
  {
    nb::gil_scoped_release unlocked;
    core.encode_plain(bytes.text(), at_start, ids);
  }
  return list_of(ids);
}

nb::list tuples_of(const std::vector<Segment>& segments) {
  nb::list result;
  for (const Segment& s : segments) result.append(nb::make_tuple(s.begin, s.end, s.id, s.token_begin, s.token_end));
  return result;
}

nb::list split(const TokenizerCore& core, nb::handle source, bool parse_special, int second) {
  const Bytes bytes(source);
  return tuples_of(core.split(bytes.text(), parse_special, static_cast<TokenizerCore::Second>(second % 3)));
}

nb::list split_normalized(const TokenizerCore& core, nb::handle source, bool parse_special) {
  const Bytes bytes(source);
  return tuples_of(core.split_normalized(bytes.text(), parse_special));
}

nb::list pattern_pieces(const std::string& source, nb::handle text) {
  const Pattern pattern(source);
  const Bytes bytes(text);
  const char* base = bytes.text().data();
  const char* end = base + bytes.text().size();
  uint64_t budget = Pattern::budget_for(bytes.text().size());
  nb::list result;
  for (const char* p = base; p < end;) {
    const char* stop = pattern.match(base, p, end, budget);
    if (stop == nullptr || stop == p) {
      p += tonnage::text::read_rune(p, end).num_bytes;
      continue;
    }
    result.append(nb::make_tuple(p - base, stop - base));
    p = stop;
  }
  return result;
}

nb::dict members(JsonFile& file, size_t offset) {
  nb::dict result;
  std::string key;
  for (JsonObject object(file, offset); object.next(key);) {
    object.peek();
    const size_t begin = object.offset();
    object.skip_value();
    result[nb::str(key.data(), key.size())] = nb::make_tuple(begin, object.offset());
  }
  return result;
}

nb::list elements(JsonFile& file, size_t offset) {
  nb::list result;
  for (JsonArray array(file, offset); array.next();) {
    array.peek();
    const size_t begin = array.offset();
    array.skip_value();
    result.append(nb::make_tuple(begin, array.offset()));
  }
  return result;
}

nb::bytes value(JsonFile& file, size_t begin, size_t end) {
  if (begin > end || end > file.text().size()) throw TextError("A part of the JSON file lies outside of it.");
  return bytes_of(file.text().substr(begin, end - begin));
}

// Tuples (kind, text, behavior, inverted, only_first, if_missing).
std::vector<StepSpec> steps_of(nb::handle given) {
  std::vector<StepSpec> steps;
  for (const nb::handle one : given) {
    const auto field = [&](int i) { return one[i]; };
    StepSpec step;
    step.kind = static_cast<StepSpec::Kind>(nb::cast<int>(field(0)) % 4);
    step.text = nb::cast<std::string>(field(1));
    step.behavior = static_cast<StepSpec::Behavior>(nb::cast<int>(field(2)) % 5);
    step.inverted = nb::cast<bool>(field(3));
    step.only_first = nb::cast<bool>(field(4));
    step.if_missing = nb::cast<bool>(field(5));
    steps.push_back(std::move(step));
  }
  return steps;
}

Options options_of(const nb::kwargs& given) {
  Options o;
  for (const auto& [key, item] : given) {
    const std::string name = nb::cast<std::string>(key);
    if (name == "byte_level") o.byte_level = nb::cast<bool>(item);
    else if (name == "model") o.model = static_cast<Options::Model>(nb::cast<int>(item) % 5);
    else if (name == "byte_fallback") o.byte_fallback = nb::cast<bool>(item);
    else if (name == "fuse_unknown") o.fuse_unknown = nb::cast<bool>(item);
    else if (name == "whole_word") o.whole_word = nb::cast<bool>(item);
    else if (name == "unescapes_spaces") o.unescapes_spaces = nb::cast<bool>(item);
    else if (name == "unknown_id") o.unknown_id = nb::cast<int32_t>(item);
    else if (name == "unknown_token") o.unknown_token = nb::cast<std::string>(item);
    else if (name == "subword_prefix") o.subword_prefix = nb::cast<std::string>(item);
    else if (name == "word_suffix") o.word_suffix = nb::cast<std::string>(item);
    else if (name == "max_word_chars") o.max_word_chars = nb::cast<uint32_t>(item);
    else if (name == "steps") o.steps = steps_of(item);
    else throw nb::type_error(("no tokenizer option is called " + name).c_str());
  }
  return o;
}

void raise_tokenizer_error(const std::exception_ptr& thrown, void*) {
  try {
    std::rethrow_exception(thrown);
  } catch (const TextError& error) {
    const nb::object type = nb::module_::import_("tonnage.core.errors").attr("TokenizerError");
    PyErr_SetString(type.ptr(), error.what());
  }
}

}  // namespace

void bind_text(nb::module_& m) {
  nb::register_exception_translator(raise_tokenizer_error);
  m.def("pattern_pieces", &pattern_pieces, nb::arg("pattern"), nb::arg("text"),
        "Return (begin, end) of each match of a pre-tokenizer pattern in UTF-8 bytes.");
  m.def("ids_of_texts", [](nb::handle tokens, uint64_t count, const std::vector<std::string>& texts) {
    return tonnage::text::ids_of_texts(Bytes(tokens).text(), count, texts);
  }, nb::arg("tokens"), nb::arg("count"), nb::arg("texts"), "Return the id of each text in an array of GGUF strings, or -1.");
  nb::class_<JsonFile>(m, "JsonFile")
      .def(nb::init<const std::string&>(), nb::arg("path"))
      .def("members", &members, nb::arg("offset"), "Map each key of the object at `offset` to its value's (begin, end).")
      .def("elements", &elements, nb::arg("offset"), "Return (begin, end) of each element of the array at `offset`.")
      .def("value", &value, nb::arg("begin"), nb::arg("end"), "Return these bytes of the file.");
  nb::class_<TokenizerCore>(m, "TokenizerCore")
      .def("__init__", [](TokenizerCore* self, const nb::kwargs& options) { new (self) TokenizerCore(options_of(options)); })
      .def("load_gguf_tokens", [](TokenizerCore& core, nb::handle tokens, uint64_t count, nb::handle types, nb::handle scores,
                                  const std::vector<uint32_t>& controls) {
        const Bytes a(tokens), b(types), c(scores);
        core.load_gguf_tokens(a.text(), count, b.text(), c.text(), controls);
      }, nb::arg("tokens"), nb::arg("count"), nb::arg("types"), nb::arg("scores"), nb::arg("controls"))
      .def("load_gguf_merges", [](TokenizerCore& core, nb::handle merges, uint64_t count) {
        const Bytes a(merges);
        core.load_gguf_merges(a.text(), count);
      }, nb::arg("merges"), nb::arg("count"))
      .def("load_json_vocabulary", &TokenizerCore::load_json_vocabulary, nb::arg("file"), nb::arg("offset"))
      .def("load_json_log_probabilities", &TokenizerCore::load_json_log_probabilities, nb::arg("file"), nb::arg("offset"))
      .def("load_json_merges", &TokenizerCore::load_json_merges, nb::arg("file"), nb::arg("offset"))
      .def("load_text_merges", [](TokenizerCore& core, nb::handle text) { core.load_text_merges(Bytes(text).text()); },
           nb::arg("text"))
      .def("add_special", [](TokenizerCore& core, uint32_t id, nb::bytes text, int kind, int manners,
                             std::optional<nb::bytes> normalized) {
        std::string written;
        if (normalized) written.assign(normalized->c_str(), normalized->size());
        core.add_special(id, {text.c_str(), text.size()}, static_cast<Kind>(kind), static_cast<uint8_t>(manners),
                         normalized ? &written : nullptr);
      }, nb::arg("id"), nb::arg("text"), nb::arg("kind"), nb::arg("manners"), nb::arg("normalized").none())
      .def("finish", &TokenizerCore::finish)
      .def("encode", &encode, nb::arg("text"), nb::arg("parse_special"))
      .def("encode_plain", &encode_plain, nb::arg("text"), nb::arg("at_start"))
      .def("split", &split, nb::arg("text"), nb::arg("parse_special"), nb::arg("second"))
      .def("split_normalized", &split_normalized, nb::arg("text"), nb::arg("parse_special"))
      .def_prop_ro("has_normalized_specials", &TokenizerCore::has_normalized_specials)
      .def("token_text", [](const TokenizerCore& core, uint32_t id) { return bytes_of(core.token_text(id)); }, nb::arg("id"))
      .def("token_bytes", [](const TokenizerCore& core, uint32_t id) { return bytes_of(core.token_bytes(id)); }, nb::arg("id"))
      .def("kind", [](const TokenizerCore& core, uint32_t id) {
        if (id >= core.vocabulary().size()) throw TextError("Token id " + std::to_string(id) + " is outside the vocabulary.");
        return static_cast<int>(core.vocabulary().kind(id));
      }, nb::arg("id"))
      .def("find", [](const TokenizerCore& core, nb::bytes text) { return core.find({text.c_str(), text.size()}); }, nb::arg("text"))
      .def_prop_ro("size", [](const TokenizerCore& core) { return core.vocabulary().size(); })
      .def_prop_ro("nbytes", &TokenizerCore::nbytes);
}
