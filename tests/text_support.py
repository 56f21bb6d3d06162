"""What the tokenizer tests share: metadata like a GGUF file's, referees and hard texts."""

import mmap
import os
import random
import struct
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Referee
from tokenizers.models import BPE

from tonnage._native import scan_strings
from tonnage.text.pretokenizers import KINDS

MODELS = Path(os.environ.get("TONNAGE_TEST_MODELS", "/nonexistent"))
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_FORMATS = dict(zip(_SIZES, "BbHhIif?Qqd", strict=True))


class LazyArray:
    """An array of GGUF metadata, over the raw bytes of its elements."""

    def __init__(self, data: bytes | memoryview, count: int) -> None:
        self._data = memoryview(data)
        self.count = count

    def buffer(self) -> memoryview:
        return self._data


def strings(items: Sequence[str | bytes]) -> LazyArray:
    raw = [item.encode() if isinstance(item, str) else item for item in items]
    return LazyArray(b"".join(struct.pack("<Q", len(b)) + b for b in raw), len(raw))


def texts_of(array: LazyArray) -> list[str]:
    data, offset, result = bytes(array.buffer()), 0, []
    for _ in range(array.count):
        (size,) = struct.unpack_from("<Q", data, offset)
        result.append(data[offset + 8 : offset + 8 + size].decode())
        offset += 8 + size
    return result


def numbers_of(array: LazyArray, code: str) -> list[float]:
    return list(struct.unpack(f"<{array.count}{code}", array.buffer()))


def read_metadata(path: Path) -> dict[str, object]:
    """The metadata of a GGUF file; the mapping lives as long as its arrays."""
    with open(path, "rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view = memoryview(mapped)
    (num_keys,) = struct.unpack_from("<Q", mapped, 16)
    offset, result = 24, {}

    def text(at: int) -> tuple[str, int]:
        (size,) = struct.unpack_from("<Q", mapped, at)
        return bytes(view[at + 8 : at + 8 + size]).decode(), at + 8 + size

    for _ in range(num_keys):
        key, offset = text(offset)
        (kind,) = struct.unpack_from("<I", mapped, offset)
        offset += 4
        if kind == 8:
            result[key], offset = text(offset)
        elif kind == 9:
            element, count = struct.unpack_from("<IQ", mapped, offset)
            offset += 12
            end = (
                scan_strings(view, offset, count)
                if element == 8
                else offset + count * _SIZES[element]
            )
            result[key] = LazyArray(view[offset:end], count)
            offset = end
        else:
            (result[key],) = struct.unpack_from("<" + _FORMATS[kind], mapped, offset)
            offset += _SIZES[kind]
    return result


def add_tokens(referee: Referee, tokens: Iterable[tuple[str, int]]) -> None:
    """Tell the referee which texts are control (3) and user-defined (4) tokens."""
    for text, kind in tokens:
        token = AddedToken(text, special=kind == 3, normalized=False)
        (referee.add_special_tokens if kind == 3 else referee.add_tokens)([token])


def byte_level_referee(vocab: dict[str, int], merges: list[tuple[str, str]], kind: str) -> Referee:
    """The `tokenizers` construction of a byte-level model with a pre-tokenizer kind of ours."""
    known = KINDS[kind]
    referee = Referee(BPE(vocab=vocab, merges=merges, ignore_merges=known.whole_word))
    referee.normalizer = normalizers.NFC() if known.normal_form else None
    splits = [pre_tokenizers.Split(Regex(p), "isolated") for p in known.patterns]
    level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    referee.pre_tokenizer = pre_tokenizers.Sequence([*splits, level])
    referee.decoder = decoders.ByteLevel()
    return referee


def referee_of(metadata: dict[str, object]) -> Referee:
    """The `tokenizers` construction of a byte-level GGUF file."""
    tokens = texts_of(metadata["tokenizer.ggml.tokens"])
    types = numbers_of(metadata["tokenizer.ggml.token_type"], "i")
    merges = [tuple(m.split(" ")) for m in texts_of(metadata["tokenizer.ggml.merges"])]
    vocab = {text: i for i, text in enumerate(tokens)}
    referee = byte_level_referee(vocab, merges, str(metadata["tokenizer.ggml.pre"]))
    add_tokens(referee, ((t, k) for t, k in zip(tokens, types, strict=True) if k in (3, 4)))
    return referee


def trained(corpus: Iterable[str], kind: str, size: int) -> tuple[list[str], list[tuple[str, str]]]:
    """Tokens by id and merges by rank of a small byte-level vocabulary trained on the corpus."""
    import json

    from tokenizers.trainers import BpeTrainer

    referee = byte_level_referee({}, [], kind)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet)
    referee.train_from_iterator(corpus, trainer)
    model = json.loads(referee.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return tokens, [tuple(m) for m in model["merges"]]


def byte_level_metadata(
    tokens: Sequence[str], merges: Sequence[tuple[str, str]], kind: str, types: Sequence[int] = ()
) -> dict[str, object]:
    """GGUF metadata of a byte-level vocabulary; types default to normal."""
    types = types or [1] * len(tokens)
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": kind,
        "tokenizer.ggml.tokens": strings(tokens),
        "tokenizer.ggml.token_type": LazyArray(struct.pack(f"<{len(types)}i", *types), len(types)),
        "tokenizer.ggml.merges": strings([f"{a} {b}" for a, b in merges]),
        "tokenizer.ggml.add_bos_token": False,
    }


HARD_TEXTS = (
    "",
    " ",
    "  ",
    "\n",
    "\r\n",
    " \n \r\n\t x",
    "a" * 300,
    " " * 300 + "x",
    "\n" * 70,
    "\t\t\tif x:\n\t\t\t\ty",
    "👩‍👩‍👧‍👦 👨🏽‍🚀 🏳️‍🌈 🇩🇪🇫🇷 ❤️‍🔥",
    "مرحبا بالعالم ١٢٣ ‏RTL‏ שלום",
    "e\u0301 a\u0308\u0323 \u0041\u030a ﬁ Å Ω K",
    "q\u0307\u0323 Z\u0351\u0343\u0345algo\u0300\u0301\u0302",
    "日本語の文章です。中文文本，混排English。한국어 문장",
    "\u1112\u1161\u11ab\u1100\u1173\u11af \u1100\u1161\ua960",
    "don't DON'T it'ſ we'LL I'M y'all's 'RE 'ré",
    "1234567890 ١٢٣٤٥٦ Ⅻ ½ ² ①②③ 𝟘𝟙𝟚",
    "\u00a0\u2003\u3000x\u2028y\u2029z\u0085w\u180e\u200b\ufeff",
    "x=1;y=[a,b]//**!!??...---___",
    "<|im_start|>user\nhi<|im_end|>",
    "<start_of_turn>user\n<end_of_turn><bos><0x0A><unused5>[multimodal]",
    "ⅰⅠ ǅ ʰˠ ªº ΑΒΓ αβγ ДЖ",
    "\u0000\u0001\u001c\u001d\u001f\u007f\u0080\u009f",
    "𐐀𐐨 𝒜𝓑 \U0001f1e6\U000e0067 \U0010ffff \ue000",
    "ไทยภาษา देवनागरी বাংলা தமிழ்",
    "camelCase snake_case SCREAMING HTTPServer2Go iOS's",
    "≯\u0338 >\u0338 \u0344 \u0958 \u2126 \uf900 \U0002f800",
    "▁▁ ▁a▁b a▁",
    "http://x.y/z?a=b&c=%20#d\\path\\to",
)


def random_text(rng: random.Random, size: int) -> str:
    """Code points of every kind, surrogates excepted, in runs of one neighbourhood."""
    out: list[str] = []
    while len(out) < size:
        base = rng.choice(
            (0x20, 0x41, 0x61, 0x30, 0xC0, 0x300, 0x370, 0x590, 0x900, 0x1100, 0x2000)
        )
        base = rng.choice((base, base, rng.randrange(0x11000), rng.randrange(0x110000)))
        for _ in range(rng.randrange(1, 8)):
            point = min(base + rng.randrange(64), 0x10FFFF)
            out.append(rng.choice((" ", "\n", "'s")) if 0xD800 <= point < 0xE000 else chr(point))
    return "".join(out)


def source_files(limit_bytes: int) -> list[Path]:
    """Files of program text found on this machine: the standard library, headers, and the like."""
    roots = [
        Path(sysconfig.get_path("stdlib")),
        Path("/usr/include"),
        Path("/usr/share"),
        Path("/usr/lib"),
    ]
    endings = (
        ".py",
        ".h",
        ".hpp",
        ".c",
        ".cc",
        ".js",
        ".pl",
        ".pm",
        ".sh",
        ".cmake",
        ".html",
        ".css",
    )
    endings += (
        ".xml",
        ".json",
        ".sql",
        ".rs",
        ".go",
        ".java",
        ".lua",
        ".tcl",
        ".awk",
        ".m4",
        ".md",
    )
    found: list[Path] = []
    taken: dict[str, int] = {}
    for root in roots:
        for folder, _, names in os.walk(root):
            for name in sorted(names):
                path = Path(folder, name)
                if path.suffix not in endings or taken.get(path.suffix, 0) >= limit_bytes:
                    continue
                if path.is_file() and not path.is_symlink() and 200 < path.stat().st_size < 200_000:
                    taken[path.suffix] = taken.get(path.suffix, 0) + path.stat().st_size
                    found.append(path)
    return found
