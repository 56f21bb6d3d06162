"""Folders with vocab.json and merges.txt in place of tokenizer.json, as transformers reads them."""

import json

import pytest
from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Referee
from tokenizers.models import BPE

from text_support import HARD_TEXTS, trained
from tonnage.core.errors import TokenizerError
from tonnage.text.facts import facts_of_folder
from tonnage.text.pretokenizers import QWEN2
from tonnage.text.tokenizer import Tokenizer

CORPUS = [*HARD_TEXTS, "the quick brown fox's 12345 legs " * 3, "def f(x):\n    return x\n" * 3]
TOKENS, MERGES = trained(CORPUS, "gpt-2", 500)
TEXTS = [*HARD_TEXTS, "a<|endoftext|>b", " <|padding|> <SEP>x", "<|im_start|>user\nhi<|im_end|>\n"]
END = "<|endoftext|>"
LEVEL = pre_tokenizers.ByteLevel
# Class -> normalizer, pre-tokenizers before the byte letters, whether GPT-2's pattern is used, and
# the special tokens of the class that the vocabulary lacks, as transformers 5.24 numbers them.
CLASSES = {
    "GPT2Tokenizer": (None, [], True, [END]),
    "CodeGenTokenizer": (None, [], True, [END]),
    "GPTNeoXTokenizer": (normalizers.NFC(), [], True, [END, "<|padding|>"]),
    "Qwen2Tokenizer": (
        normalizers.NFC(), [pre_tokenizers.Split(Regex(QWEN2), "isolated")], False, [END],
    ),
    "CohereTokenizer": (
        normalizers.NFC(), [pre_tokenizers.Digits(individual_digits=True)], True,
        ["<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", "<UNK>", "<SEP>", "<PAD>", "<CLS>",
         "<MASK_TOKEN>"],
    ),
}  # fmt: skip


def write_folder(folder, config=None, model=None, tokens=TOKENS, merges=MERGES, end="\n"):
    vocabulary = {text: i for i, text in enumerate(tokens)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), "utf-8")
    lines = ["#version: 0.2", *map(" ".join, merges)]
    (folder / "merges.txt").write_bytes("".join(line + end for line in lines).encode())
    (folder / "config.json").write_text(json.dumps(model or {"model_type": "llama"}))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def referee_of(name, *, has_prefix=False):
    normalizer, splits, uses_pattern, specials = CLASSES[name]
    referee = Referee(BPE(vocab={t: i for i, t in enumerate(TOKENS)}, merges=MERGES))
    if normalizer is not None:
        referee.normalizer = normalizer
    level = LEVEL(add_prefix_space=has_prefix, use_regex=uses_pattern)
    referee.pre_tokenizer = pre_tokenizers.Sequence([*splits, level])
    referee.decoder = decoders.ByteLevel()
    referee.add_special_tokens([AddedToken(text, normalized=False) for text in specials])
    return referee


def ids_of(tokenizer, text, **options):
    return tokenizer.encode(text, **{"add_special": False, "parse_special": True, **options})


@pytest.mark.parametrize("has_prefix", [False, True])
@pytest.mark.parametrize("suffix", ["", "Fast"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_class_is_what_it_is_in_transformers(name, suffix, has_prefix, tmp_path):
    config = {"tokenizer_class": name + suffix, "add_prefix_space": has_prefix}
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path, config))
    referee = referee_of(name, has_prefix=has_prefix)
    for text in TEXTS:
        expected = referee.encode(text).ids
        assert ids_of(tokenizer, text) == expected, text
        decoded = referee.decode(expected, skip_special_tokens=False)
        assert tokenizer.decode(expected, keep_control=True) == decoded


@pytest.mark.parametrize(
    ("config", "model"),
    [
        (None, {"model_type": "qwen2"}),
        ({}, {"model_type": "qwen3"}),
        ({"tokenizer_class": "GPT2Tokenizer"}, {"model_type": "qwen2"}),
        (None, {"model_type": "llama", "tokenizer_class": "Qwen2TokenizerFast"}),
    ],
)
def test_the_class_is_found_where_transformers_finds_it(config, model, tmp_path):
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path, config, model))
    referee = referee_of("Qwen2Tokenizer")
    for text in TEXTS:
        assert ids_of(tokenizer, text) == referee.encode(text).ids


def test_files_name_other_special_tokens(tmp_path):
    config = {
        "tokenizer_class": "GPT2Tokenizer",
        "added_tokens_decoder": {
            str(len(TOKENS)): {"content": "<|im_start|>", "special": True},
            str(len(TOKENS) + 1): {"content": "<|im_end|>", "special": True},
        },
        "bos_token": "<|im_start|>",
        "eos_token": "<|im_end|>",
        "unk_token": "<|im_end|>",
        "add_bos_token": True,
    }
    tokenizer = Tokenizer.from_folder(write_folder(tmp_path, config))
    size = len(TOKENS)
    assert ids_of(tokenizer, "<|im_end|>", add_special=True) == [size, size + 1]
    assert tokenizer.token_id(END) is None
    assert tokenizer.names["eos_token"] == "<|im_end|>"
    assert size + 1 in tokenizer.eos_ids


def test_merges_end_their_lines_as_they_like(tmp_path):
    config = {"tokenizer_class": "GPT2Tokenizer"}
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    unix = Tokenizer.from_folder(write_folder(one, config))
    windows = Tokenizer.from_folder(write_folder(other, config, end="\r\n"))
    assert [ids_of(unix, t) for t in TEXTS] == [ids_of(windows, t) for t in TEXTS]


def test_facts_are_counted(tmp_path):
    facts = facts_of_folder(write_folder(tmp_path, {"chat_template": "x"}))
    assert facts is not None
    assert (facts.num_tokens, facts.has_template) == (len(TOKENS), True)
    assert len(MERGES) <= facts.num_merges <= len(MERGES) + 2
    written = sum(len(text.encode()) for text in TOKENS)
    assert written <= facts.text_bytes <= written + 8 * len(TOKENS)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda f: (f / "merges.txt").unlink(), "has 'vocab.json' but neither 'merges.txt' nor"),
        (lambda f: (f / "vocab.json").unlink(), "has 'merges.txt' but neither 'vocab.json' nor"),
        (
            lambda f: (f / "tokenizer_config.json").write_text('{"tokenizer_class": "X"}'),
            "names the class 'X'; known ones are CodeGenTokenizer",
        ),
        (lambda f: (f / "tokenizer_config.json").unlink(), "names no class"),
        (lambda f: (f / "vocab.json").write_text('["a"]'), "vocab.json"),
        (lambda f: (f / "merges.txt").write_text("a b\nab\n"), "Merge 1 is not a pair"),
        (lambda f: (f / "merges.txt").write_text("a b c\n"), "Merge 0 is not a pair"),
        (
            lambda f: (f / "merges.txt").write_text("a \u0416\n"),
            "right part of merge 0 is no token",
        ),
    ],
)
def test_what_is_wrong_or_missing_is_said(change, sentence, tmp_path):
    write_folder(tmp_path, {"tokenizer_class": "GPT2Tokenizer"}, tokens=["a", "b", "ab"])
    (tmp_path / "merges.txt").write_text("a b\n")
    change(tmp_path)
    with pytest.raises(TokenizerError, match=sentence):
        Tokenizer.from_folder(tmp_path)


def test_a_folder_with_sentencepiece_alone_is_told_what_to_do(tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(TokenizerError, match=r"tokenizer.model but no tokenizer.json.*save_pretr"):
        Tokenizer.from_folder(tmp_path)


@pytest.mark.filterwarnings("ignore")  # What it warns of is its own.
@pytest.mark.parametrize("model_type", ["llama", "qwen2", "qwen3", "smollm3", "gemma3_text"])
@pytest.mark.parametrize("name", CLASSES)
def test_transformers_itself_gives_the_same_ids(name, model_type, tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    config = {
        "tokenizer_class": name,
        "add_bos_token": True,
        "pad_token": "<pad>",
        "bos_token": "<begin>",
        "additional_special_tokens": ["<|im_start|>"],
    }
    folder = write_folder(tmp_path, config, {"model_type": model_type})
    referee = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer = Tokenizer.from_folder(folder)
    for text in TEXTS:
        for add_special in (True, False):
            expected = referee.encode(text, add_special_tokens=add_special)
            assert ids_of(tokenizer, text, add_special=add_special) == expected, text


@pytest.mark.filterwarnings("ignore")  # What it warns of is its own.
def test_transformers_numbers_new_tokens_so_beside_tokenizer_json_too(tmp_path):
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    names = ("pad_token", "mask_token", "eos_token", "image_token", "bos_token", "cls_token")
    config = {name: f"<{name}>" for name in names}
    config |= {"tokenizer_class": "PreTrainedTokenizerFast", "extra_special_tokens": ["<x>"]}
    folder = write_folder(tmp_path, config)
    referee_of("GPT2Tokenizer").save(str(folder / "tokenizer.json"))
    referee = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer = Tokenizer.from_folder(folder)
    for token in (*config.values(), "<x>"):
        if isinstance(token, str):
            assert tokenizer.token_id(token) == referee.get_vocab().get(token), token
