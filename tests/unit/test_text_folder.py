"""The tokenizer from tokenizer.json, against the library that the files are written for."""

import json

import pytest
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Referee
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from text_support import HARD_TEXTS
from tonnage.core.errors import TokenizerError
from tonnage.text.pretokenizers import LLAMA3, QWEN2, TEKKEN
from tonnage.text.tokenizer import Tokenizer

CORPUS = [
    *HARD_TEXTS,
    "the quick brown fox jumps over the lazy dog " * 3,
    "  indented  text\n\n\n  more" * 3,
]
SENTINEL = "\u2581"
BYTES = [f"<0x{b:02X}>" for b in range(256)]
LEVEL = pre_tokenizers.ByteLevel
SPACES_OUT = [decoders.Replace(SENTINEL, " "), decoders.ByteFallback(), decoders.Fuse()]


def isolated(*patterns):
    splits = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    return pre_tokenizers.Sequence([*splits, LEVEL(add_prefix_space=False, use_regex=False)])


def byte_level(pre_tokenizer, normalizer=None, **model):
    referee = Referee(BPE(**model))
    referee.normalizer = normalizer
    referee.pre_tokenizer = pre_tokenizer
    referee.decoder = decoders.ByteLevel()
    referee.post_processor = processors.ByteLevel(trim_offsets=False)
    return referee, LEVEL.alphabet()


def spaced(normalizer=None, pre_tokenizer=None, strip=False, fallback=True, spaces_out=SPACES_OUT):
    referee = Referee(BPE(byte_fallback=fallback, fuse_unk=True, unk_token="<unk>"))
    referee.normalizer = normalizer
    referee.pre_tokenizer = pre_tokenizer
    referee.decoder = decoders.Sequence(
        [*spaces_out, *([decoders.Strip(" ", 1, 0)] if strip else [])]
    )
    return referee, []


REPLACE = normalizers.Replace(" ", SENTINEL)
PIPELINES = {
    "gpt2": lambda: byte_level(LEVEL(add_prefix_space=False)),
    "gpt2_prefix": lambda: byte_level(LEVEL(add_prefix_space=True)),
    "llama3": lambda: byte_level(isolated(LLAMA3), ignore_merges=True),
    "qwen2": lambda: byte_level(isolated(QWEN2), normalizers.NFC()),
    "nfkc": lambda: byte_level(isolated(QWEN2), normalizers.Sequence([normalizers.NFKC()])),
    "tekken": lambda: byte_level(isolated(TEKKEN), ignore_merges=True),
    "smollm": lambda: byte_level(
        pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), LEVEL(add_prefix_space=False)]
        )
    ),
    "digits": lambda: byte_level(
        pre_tokenizers.Sequence([pre_tokenizers.Digits(), LEVEL(add_prefix_space=False)])
    ),
    "gemma": lambda: spaced(REPLACE, pre_tokenizers.Split(" ", "merged_with_previous")),
    "gemma_unknown": lambda: spaced(REPLACE, None, fallback=False),
    "llama2": lambda: spaced(
        normalizers.Sequence([normalizers.Prepend(SENTINEL), REPLACE]), None, strip=True
    ),
    "mistral": lambda: spaced(
        None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), strip=True
    ),
    "metaspace": lambda: spaced(
        None, pre_tokenizers.Metaspace(prepend_scheme="always", split=True), strip=True
    ),
    "metaspace_never": lambda: spaced(
        None, pre_tokenizers.Metaspace(prepend_scheme="never", split=True)
    ),
    "split_only": lambda: spaced(
        None,
        pre_tokenizers.Split(" ", "merged_with_previous"),
        spaces_out=[decoders.ByteFallback()],
    ),
}


def build(name, folder):
    referee, alphabet = PIPELINES[name]()
    specials = ["<unk>", "<s>", "</s>"] + ([] if alphabet or name == "gemma_unknown" else BYTES)
    trainer = BpeTrainer(
        vocab_size=700 + len(specials),
        show_progress=False,
        initial_alphabet=alphabet,
        special_tokens=specials,
    )
    # A few characters stay out of the vocabulary.
    referee.train_from_iterator([t.replace("中", "") for t in CORPUS], trainer)
    data = json.loads(referee.to_str())
    data["added_tokens"] = data["added_tokens"][:3]
    referee = Referee.from_str(json.dumps(data))
    referee.add_tokens(
        [AddedToken("<tool>", normalized=False), AddedToken("\n\n\n", normalized=False)]
    )
    referee.add_special_tokens(
        [AddedToken("<|end|>", rstrip=True), AddedToken("<mask>", lstrip=True)]
    )
    referee.save(str(folder / "tokenizer.json"))
    return referee


@pytest.mark.parametrize("name", PIPELINES)
def test_pipeline_is_identical_to_the_reference(name, tmp_path):
    referee = build(name, tmp_path)
    tokenizer = Tokenizer.from_folder(tmp_path)
    texts = [
        *HARD_TEXTS,
        "a <mask>b<|end|> \n c",
        "<s>hi</s> <tool>x<tool> y\n\n\n\nz",
        "<s>",
        " <s> ",
        "x" + SENTINEL + " y",
    ]
    for text in [*texts, " ".join(HARD_TEXTS) * 20]:
        for parse in (True, False):
            referee.encode_special_tokens = not parse
            expected = referee.encode(text, add_special_tokens=False).ids
            ids = tokenizer.encode(text, add_special=False, parse_special=parse)
            assert ids == expected, text
            assert tokenizer.decode(ids) == referee.decode(ids), text
    assert tokenizer.vocab_size == referee.get_vocab_size()


def test_files_beside_it_are_read(tmp_path):
    referee = build("llama3", tmp_path)
    referee.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    referee.save(str(tmp_path / "tokenizer.json"))
    config = {
        "bos_token": "<s>",
        "eos_token": {"content": "</s>"},
        "chat_template": "T",
        "added_tokens_decoder": {},
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [2, 7]}')
    tokenizer = Tokenizer.from_folder(tmp_path)
    assert (
        tokenizer.encode("fox", add_special=True, parse_special=False) == referee.encode("fox").ids
    )
    assert tokenizer.bos_id == 1
    assert tokenizer.eos_ids == {2, 7, tokenizer.token_id("<|end|>")}
    assert tokenizer.chat_template == "T"
    (tmp_path / "chat_template.jinja").write_text("J")
    assert Tokenizer.from_folder(tmp_path).chat_template == "J"
    config |= {
        "tokenizer_class": "LlamaTokenizerFast",
        "add_bos_token": False,
        "add_eos_token": False,
    }
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    ids = Tokenizer.from_folder(tmp_path).encode("fox", add_special=True, parse_special=False)
    assert ids == referee.encode("fox", add_special_tokens=False).ids


def test_merges_written_as_texts_are_read(tmp_path):
    referee = build("qwen2", tmp_path)
    data = json.loads(referee.to_str())
    data["model"]["merges"] = [" ".join(pair) for pair in data["model"]["merges"]]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data, ensure_ascii=True, indent=1))
    tokenizer = Tokenizer.from_folder(tmp_path)
    for text in HARD_TEXTS:
        assert (
            tokenizer.encode(text, add_special=False, parse_special=True)
            == referee.encode(text).ids
        )


@pytest.mark.parametrize("field", ["normalizer", "pre_tokenizer", "decoder", "post_processor"])
def test_an_unknown_component_is_named(field, tmp_path):
    data = json.loads(build("qwen2", tmp_path).to_str())
    data[field] = {
        "type": "Sequence",
        "normalizers": [],
        "pretokenizers": [],
        "decoders": [],
        "processors": [],
    }
    for items in list(data[field].values())[1:]:
        items.append({"type": "Exotic"})
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(TokenizerError, match="Exotic"):
        Tokenizer.from_folder(tmp_path)
