"""Any corpus, any text: token for token the reference."""

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Referee
from tokenizers import decoders, normalizers
from tokenizers.models import BPE

from text_support import byte_level_metadata, byte_level_referee, trained
from tonnage.text.tokenizer import Tokenizer

KIND = st.sampled_from(["gpt-2", "smollm", "qwen2", "llama-bpe", "tekken", "gpt-4o", "deepseek-v3"])
few = st.text("ab c\n'1é中\u0301 S", max_size=60)
any_text = st.one_of(few, st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
relaxed = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(KIND, st.lists(any_text, max_size=6), st.lists(any_text, min_size=1, max_size=4))
def test_byte_level_is_the_reference(kind, corpus, texts):
    tokens, merges = trained([*corpus, "aa"], kind, 320)
    referee = byte_level_referee({t: i for i, t in enumerate(tokens)}, merges, kind)
    tokenizer = Tokenizer.from_gguf(byte_level_metadata(tokens, merges, kind))
    for text in [*corpus, *texts, "".join(texts) * 60]:
        ids = tokenizer.encode(text, add_special=False, parse_special=True)
        assert ids == referee.encode(text).ids
        normal = referee.normalizer.normalize_str(text) if referee.normalizer else text
        assert tokenizer.decode(ids) == normal


def merge_results(
    letters: list[str], choices: list[tuple[int, int]]
) -> tuple[dict[str, int], list[tuple[str, str]]]:
    vocab, merges = {c: i for i, c in enumerate(letters)}, []
    for left, right in choices:
        names = [name for name in vocab if name[0] != "<"]
        pair = (names[left % len(names)], names[right % len(names)])
        if "".join(pair) not in vocab and len("".join(pair)) < 12:
            vocab["".join(pair)] = len(vocab)
            merges.append(pair)
    return vocab, merges


@relaxed
@given(
    st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=30),
    st.lists(st.text("abé ▁", max_size=80), min_size=1, max_size=5),
)
def test_any_merges_are_applied_like_the_reference(tmp_path_factory, choices, texts):
    vocab, merges = merge_results(["▁", "a", "b"] + [f"<0x{b:02X}>" for b in range(256)], choices)
    vocab = {name: i for i, name in enumerate(vocab)}
    referee = Referee(BPE(vocab=vocab, merges=merges, byte_fallback=True, fuse_unk=True))
    referee.normalizer = normalizers.Replace(" ", "▁")
    referee.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    folder = tmp_path_factory.mktemp("merges")
    referee.save(str(folder / "tokenizer.json"))
    tokenizer = Tokenizer.from_folder(folder)
    for text in texts:
        assert (
            tokenizer.encode(text, add_special=False, parse_special=True)
            == referee.encode(text).ids
        )
