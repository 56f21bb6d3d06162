"""Prefixes on disk: found again after a restart, and the answer is the one without them."""

import json
import random
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.command import tonnage
from support.pages import page_paths
from tonnage.core.errors import RequestError
from tonnage.core.plan import KV_FORMATS
from tonnage.engine.build import ServingOptions
from tonnage.engine.disk_tier import DiskOptions
from tonnage.engine.engine import Engine
from tonnage.engine.generation import Generation

PROMPT = random.Random(3).choices(range(256), k=300)
FAMILIES = ("llama", "gemma3_text")


@pytest.fixture(scope="module", params=FAMILIES)
def model(request, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(tiny_config(request.param), seed=1), matrices("Q8_0"))


def opened(model: Path, folder: Path | None, **more) -> Engine:
    disk = None if folder is None else DiskOptions(1 << 30, folder)
    options = {"context": 512, "threads": 2, **more}
    return Engine.open(str(model), serving=ServingOptions(disk=disk), **options)


def answer(engine: Engine, prompt: list[int]) -> Generation:
    options = {"max_tokens": 12, "temperature": 0, "logprobs": 2, "ignore_eos": True}
    return engine.generate(prompt, **options).complete()


def told(generation: Generation) -> tuple:
    return generation.tokens, generation.logprobs


@pytest.mark.parametrize("kv_format", KV_FORMATS)
def test_a_restart_finds_the_prefix_and_the_same_bits(model, tmp_path, kv_format):
    with opened(model, None, kv_format=kv_format) as engine:
        cold = answer(engine, PROMPT)
    with opened(model, tmp_path, kv_format=kv_format) as engine:
        assert told(answer(engine, PROMPT)) == told(cold)
    assert page_paths(tmp_path)
    for more in ({"threads": 1}, {"context": 384}):
        with opened(model, tmp_path, kv_format=kv_format, **more) as engine:
            warm = answer(engine, PROMPT)
        assert warm.num_cached_tokens >= 256
        assert told(warm) == told(cold)
    (other,) = {*KV_FORMATS} - {kv_format}
    with opened(model, tmp_path, kv_format=other) as engine:
        assert answer(engine, PROMPT).num_cached_tokens == 0


@pytest.mark.parametrize("more", [{"max_batch_tokens": 32}, {"kv_format": "int8"}])
def test_pages_of_another_form_are_other_pages(model, tmp_path, more):
    with opened(model, tmp_path) as engine:
        answer(engine, PROMPT)
        plain = engine.plan.kv.groups
    with opened(model, None, **more) as engine:
        cold = answer(engine, PROMPT)
    with opened(model, tmp_path, **more) as engine:
        first = answer(engine, PROMPT)
        pages = engine.plan.kv.groups
    # Few rows a step split windowed layers off into pages of their own.
    same = [group.page_stride for group in plain] == [group.page_stride for group in pages]
    assert (first.num_cached_tokens >= 256) == same
    with opened(model, tmp_path, **more) as engine:
        second = answer(engine, PROMPT)
    assert second.num_cached_tokens >= 256
    assert told(first) == told(second) == told(cold)


def test_another_prompt_uses_what_is_equal_to_its_own(model, tmp_path):
    other = [*PROMPT[:150], *reversed(PROMPT)]
    with opened(model, None) as engine:
        cold = answer(engine, other)
    with opened(model, tmp_path) as engine:
        answer(engine, PROMPT)
    with opened(model, tmp_path) as engine:
        warm = answer(engine, other)
    assert warm.num_cached_tokens == 128
    assert told(warm) == told(cold)


def test_damaged_files_change_no_answer(model, tmp_path):
    with opened(model, tmp_path) as engine:
        cold = answer(engine, PROMPT)
    rng = random.Random(5)
    paths = page_paths(tmp_path)
    for path in rng.sample(paths, 2):
        data = bytearray(path.read_bytes())
        data[rng.randrange(len(data))] ^= 1
        path.write_bytes(data)
    with opened(model, tmp_path) as engine:
        assert told(answer(engine, PROMPT)) == told(cold)


def test_evicted_prefixes_come_back_from_disk(model, tmp_path):
    prompts = [random.Random(seed).choices(range(256), k=300) for seed in range(4)]
    with opened(model, None) as engine:
        cold = [told(answer(engine, prompt)) for prompt in prompts]
    # The pool has pages for one context; each prompt pushes out the one before.
    with opened(model, tmp_path) as engine:
        for _ in range(2):
            answers = [answer(engine, prompt) for prompt in prompts]
            assert [told(one) for one in answers] == cold
        assert [one.num_cached_tokens for one in answers] == [256] * 4


def test_other_weights_under_the_same_name_find_nothing(model, tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(model.read_bytes())
    with opened(path, tmp_path / "pages") as engine:
        answer(engine, PROMPT)
    data = bytearray(model.read_bytes())
    data[-100] ^= 4
    path.write_bytes(data)
    with opened(path, tmp_path / "pages") as engine:
        assert answer(engine, PROMPT).num_cached_tokens == 0


def test_the_precision_is_part_of_what_pages_are(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", tiny_model(tiny_config("llama"), seed=1))
    stored = set()
    for precision in (None, "8bit"):
        with opened(path, tmp_path / "pages", precision=precision) as engine:
            assert answer(engine, PROMPT).num_cached_tokens == 0
        assert stored < {*page_paths(tmp_path / "pages")}
        stored = {*page_paths(tmp_path / "pages")}
    for precision in (None, "8bit"):
        with opened(path, tmp_path / "pages", precision=precision) as engine:
            assert answer(engine, PROMPT).num_cached_tokens >= 256


def test_a_folder_that_cannot_be_used_changes_no_answer(model, tmp_path):
    with opened(model, None) as engine:
        cold = answer(engine, PROMPT)
    (tmp_path / "file").write_text("")
    for _ in range(2):
        with opened(model, tmp_path / "file") as engine:
            assert told(answer(engine, PROMPT)) == told(cold)


def test_the_command_line_keeps_pages_only_when_told(model, tmp_path):
    args = ("run", model, "word " * 60, "--raw", "--max-tokens", 4, "--temperature", 0, "--json")
    found = []
    for more in ((), (), ("--prefix-cache", "1MiB"), ("--prefix-cache", "1MiB")):
        said = json.loads(tonnage(tmp_path, *args, *more).stdout)
        found.append((said["num_cached_tokens"], said["text"]))
    numbers, texts = zip(*found, strict=True)
    assert numbers[:3] == (0, 0, 0)
    assert numbers[3] >= 64
    assert len(set(texts)) == 1
    assert page_paths(tmp_path / "cache" / "tonnage" / "pages")


def test_closing_twice_is_closing_once(model, tmp_path):
    # So small that no page is ever kept, and each would be read again.
    options = ServingOptions(disk=DiskOptions(1, tmp_path))
    engine = Engine.open(str(model), serving=options, context=512, threads=1)
    assert answer(engine, PROMPT).tokens
    engine.close()
    engine.close()
    with pytest.raises(RequestError, match="closed"):
        answer(engine, PROMPT)
