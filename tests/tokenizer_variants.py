"""Random tokenizer.json files of every kind that the package tokenizers knows."""

import json
import random
from collections.abc import Callable
from typing import Any

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as Referee
from tokenizers.models import BPE, Unigram, WordLevel, WordPiece

from text_support import HARD_TEXTS
from tonnage.text.pretokenizers import DIGITS, LLAMA3, O200K, QWEN2, QWEN35, TEKKEN

MARK = "\u2581"
BYTES = [f"<0x{b:02X}>" for b in range(256)]
BEHAVIORS = ("isolated", "removed", "merged_with_previous", "merged_with_next", "contiguous")
PATTERNS: tuple[Any, ...] = (
    " ",
    "\n",
    "e",
    "the",
    ".",
    MARK,
    *map(
        Regex,
        (
            LLAMA3,
            QWEN2,
            QWEN35,
            TEKKEN,
            O200K,
            DIGITS,
            r"\s",
            r"\s+",
            r"\d{1,3}",
            r"[^\s\p{L}]",
            r"\w+",
            r"\p{L}+",
            "(?i:the|and)",
            "[aeiou]",
            r"\r?\n",
            r"(?<=\d)\p{L}",
            r"(?<!\p{L})\p{N}+",
            ".{1,4}",
            r"^\s",
            r"\W+",
            r"\p{P}$",
        ),
    ),
)
ADDED = (
    "<tool>",
    "<tool>x",
    "[MASK]",
    "cat",
    "the",
    "\n\n",
    "  ",
    "é",
    "n\u0303",
    "Straße",
    "Ü",
    "<|end|>",
    "日本",
    "A",
    "a b",
    ".",
    "Ġx",
    "ﬁ",
    "\u00a0",
    "<0x41>",
    MARK + "x",
    "x" + MARK,
)
# Those that share no character with others: the library looks for no token in a control token, even
# where control tokens are plain text.
CONTROL = ("[MASK]", "<|end|>", "日本", "é", "Straße", "ﬁ")

TEXTS = (
    "cat concat cat. a cat <tool>x <tool> y [MASK] z",
    "hello <unk> <s>a</s> b",
    "  x  ",
    " é n\u0303x Straße STRASSE Ü\n\n  a b . <|end|> 日本語 the THE x▁ ▁x ﬁ\u00a0a",
    "Ⓐ²x_‿y\u200dz \u0300a",
    "Σίσυφος ΟΔΟΣ İstanbul",
    "\u0301\u0302 a\r\nb\r\n\r\nc",
)


def mixed_text(seed: int, num_bytes: int) -> str:
    """Words, program text, other scripts and added tokens in a random order."""
    rng = random.Random(seed)
    words = [*" ".join((*HARD_TEXTS, *TEXTS)).split(" "), *ADDED, " ", "  ", "\n", "\t"]
    parts, size = [], 0
    while size < num_bytes:
        parts.append(rng.choice(words) + rng.choice((" ", " ", "")))
        size += len(parts[-1].encode())
    return "".join(parts)


class Variant:
    """One random tokenizer; `shape` says of what it is made."""

    def __init__(self, seed: int, corpus: list[str]) -> None:
        self.rng = random.Random(seed)
        kind = ("bpe", "bpe", "bytes", "bytes", "unigram", "wordpiece", "wordlevel")[seed % 7]
        self.byte_level = kind == "bytes"
        normalizer, pre_tokenizer = self._normalizer(), self._pre_tokenizer(kind)
        self.referee = self._model(kind, normalizer, pre_tokenizer, corpus)
        self.referee.decoder = self._decoder(kind)
        self.referee.post_processor = self._post_processor()
        self._add_tokens()
        self.json = self.referee.to_str()
        self.referee = Referee.from_str(self.json)
        data = json.loads(self.json)
        self.shape = {
            name: data[name]
            for name in ("normalizer", "pre_tokenizer", "decoder", "post_processor", "added_tokens")
        } | {"model": {k: v for k, v in data["model"].items() if k not in ("vocab", "merges")}}

    def _some(self, makers: list[Callable[[], Any]], most: int) -> list[Any]:
        count = self.rng.choice([0, 1, 1, *range(most + 1)])
        return [self.rng.choice(makers)() for _ in range(count)]

    def _normalizer(self) -> Any:
        rng = self.rng
        makers: list[Callable[[], Any]] = [
            normalizers.NFC,
            normalizers.NFD,
            normalizers.NFKC,
            normalizers.NFKD,
            normalizers.Lowercase,
            normalizers.StripAccents,
            normalizers.Nmt,
            lambda: normalizers.Strip(rng.random() < 0.5, rng.random() < 0.5),
            lambda: normalizers.Prepend(rng.choice((MARK, "_", "> "))),
            lambda: normalizers.Replace(" ", MARK),
            lambda: normalizers.Replace(
                *rng.choice((("\r\n", "\n"), ("``", '"'), ("e", ""), ("a", "aa")))
            ),
            lambda: normalizers.Replace(
                Regex(rng.choice((" {2,}", r"\s+", r"\p{M}", "[\n\r]+"))), rng.choice((" ", ""))
            ),
            lambda: normalizers.BertNormalizer(*(rng.random() < 0.5 for _ in range(4))),
        ]
        parts = self._some(makers, 3)
        return normalizers.Sequence(parts) if len(parts) > 1 else parts[0] if parts else None

    def _pre_tokenizer(self, kind: str) -> Any:
        rng = self.rng
        makers: list[Callable[[], Any]] = [
            lambda: pre_tokenizers.Split(
                rng.choice(PATTERNS), rng.choice(BEHAVIORS), rng.random() < 0.3
            ),
            lambda: pre_tokenizers.Split(
                rng.choice(PATTERNS), rng.choice(BEHAVIORS), rng.random() < 0.3
            ),
            lambda: pre_tokenizers.Punctuation(rng.choice(BEHAVIORS)),
            pre_tokenizers.WhitespaceSplit,
            pre_tokenizers.Whitespace,
            pre_tokenizers.BertPreTokenizer,
            lambda: pre_tokenizers.Digits(rng.random() < 0.5),
            lambda: pre_tokenizers.CharDelimiterSplit(rng.choice(" -e")),
            lambda: pre_tokenizers.Metaspace(
                prepend_scheme=rng.choice(("always", "first", "never")), split=rng.random() < 0.5
            ),
            lambda: pre_tokenizers.FixedLength(rng.choice((1, 3, 8))),
        ]
        parts = self._some(makers, 3)
        if kind in ("wordpiece", "wordlevel") and not parts:
            parts = [pre_tokenizers.WhitespaceSplit()]
        if kind == "bytes":
            level = pre_tokenizers.ByteLevel(rng.random() < 0.3, use_regex=rng.random() < 0.5)
            parts.insert(rng.choice((len(parts), len(parts), rng.randrange(len(parts) + 1))), level)
        return pre_tokenizers.Sequence(parts) if len(parts) > 1 else parts[0] if parts else None

    def _model(self, kind: str, normalizer: Any, pre_tokenizer: Any, corpus: list[str]) -> Referee:
        from tokenizers import trainers

        rng = self.rng
        specials = ["<unk>", "<s>", "</s>"]
        alphabet = (
            pre_tokenizers.ByteLevel.alphabet() if kind == "bytes" and rng.random() < 0.8 else []
        )
        shared = {
            "vocab_size": 600 + len(alphabet),
            "show_progress": False,
            "special_tokens": specials,
        }
        fallback = rng.random() < 0.4 and kind in ("bpe", "unigram")
        if kind in ("bpe", "bytes"):
            options: dict[str, Any] = {
                "ignore_merges": rng.random() < 0.3,
                "fuse_unk": rng.random() < 0.5,
            }
            if not alphabet and rng.random() < 0.8:
                options["unk_token"] = "<unk>"
            if rng.random() < 0.2:
                options["end_of_word_suffix"] = "</w>"
            if rng.random() < 0.2:
                options["continuing_subword_prefix"] = "##"
            model: Any = BPE(**options)
            trained = trainers.BpeTrainer(
                initial_alphabet=alphabet,
                limit_alphabet=300,
                **{
                    k: v
                    for k, v in options.items()
                    if k in ("end_of_word_suffix", "continuing_subword_prefix")
                },
                **shared,
            )
        elif kind == "unigram":
            model, trained = Unigram(), trainers.UnigramTrainer(unk_token="<unk>", **shared)
        elif kind == "wordpiece":
            model = WordPiece(unk_token="<unk>", max_input_chars_per_word=rng.choice((100, 12)))
            trained = trainers.WordPieceTrainer(**shared)
        else:
            model, trained = WordLevel(unk_token="<unk>"), trainers.WordLevelTrainer(**shared)
        referee = Referee(model)
        if normalizer is not None:
            referee.normalizer = normalizer
        if pre_tokenizer is not None:
            referee.pre_tokenizer = pre_tokenizer
        referee.train_from_iterator([line for text in corpus for line in text.split("\n")], trained)
        return self._with_bytes(referee) if fallback else referee

    def _with_bytes(self, referee: Referee) -> Referee:
        """Give the vocabulary tokens of bytes; sometimes a few are missing."""
        data = json.loads(referee.to_str())
        model, some = data["model"], BYTES if self.rng.random() < 0.7 else BYTES[:200]
        if model["type"] == "Unigram":
            model["vocab"] += [[name, -20.0] for name in some]
        else:
            model["vocab"] |= {name: len(model["vocab"]) + i for i, name in enumerate(some)}
        model["byte_fallback"] = True
        return Referee.from_str(json.dumps(data))

    def _decoder(self, kind: str) -> Any:
        rng = self.rng
        level, fallback, fuse = decoders.ByteLevel, decoders.ByteFallback, decoders.Fuse
        spaces = lambda: decoders.Replace(MARK, " ")  # noqa: E731
        choices: list[Callable[[], Any]] = [
            lambda: decoders.Sequence([spaces(), fallback(), fuse()]),
            lambda: decoders.Sequence([spaces(), fallback(), fuse(), decoders.Strip(" ", 1, 0)]),
            lambda: decoders.Metaspace(prepend_scheme=rng.choice(("always", "never"))),
            lambda: decoders.WordPiece("##", rng.random() < 0.5),
            lambda: decoders.Sequence(
                [decoders.Replace("</w>", " "), decoders.Strip("x", *rng.choice(((1, 0), (0, 1))))]
            ),
            lambda: decoders.Replace(Regex("[aeiou]"), "_"),
            lambda: None,
        ]
        if kind == "bytes" and rng.random() < 0.8:
            return level()
        return rng.choice(choices)()

    def _post_processor(self) -> Any:
        pair = [("</s>", 2), ("<s>", 1)]
        return self.rng.choice(
            (
                lambda: None,
                lambda: processors.ByteLevel(),
                lambda: processors.RobertaProcessing(*pair),
                lambda: processors.BertProcessing(*pair),
                lambda: processors.TemplateProcessing(
                    single="<s> <s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
                ),
                lambda: processors.Sequence(
                    [
                        processors.ByteLevel(),
                        processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)]),
                    ]
                ),
            )
        )()

    def _add_tokens(self) -> None:
        rng = self.rng
        for text in rng.sample(ADDED, rng.randrange(6)):
            manners = {
                name: rng.random() < 0.3
                for name in ("lstrip", "rstrip", "single_word", "normalized")
            }
            # The library panics where one eats what another one that eats is in.
            manners["lstrip"] = manners["lstrip"] and not text.isspace()
            token = AddedToken(text, **manners)
            special = text in CONTROL and rng.random() < 0.6
            (self.referee.add_special_tokens if special else self.referee.add_tokens)([token])
