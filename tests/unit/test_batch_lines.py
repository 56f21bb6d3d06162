"""Lines of a batch: what they may say, and what is said about those that may not."""

import json
import os
import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tonnage.batch.files import ResultFile, read_lines
from tonnage.batch.lines import MAX_LINE_BYTES, error_line, line_id, parse_line
from tonnage.core.errors import BatchError, RequestError
from tonnage.core.sampling import SamplingOptions

DEFAULTS = SamplingOptions(max_tokens=7, temperature=0.5)
HI = [{"role": "user", "content": "Hi"}]


def parsed(fields: object, *, raw: bool = False):
    return parse_line(json.dumps(fields).encode(), DEFAULTS, raw=raw)


def test_a_plain_line_takes_the_options_of_the_command():
    request = parsed({"prompt": "Hi"})
    assert (request.prompt, request.options, request.custom_id) == ("Hi", DEFAULTS, None)
    assert (request.is_openai, request.is_chat, request.raw) == (False, False, False)
    assert parsed({"prompt": [1, 2]}, raw=True).raw
    assert not parsed({"messages": HI}, raw=True).raw


def test_what_a_line_says_holds():
    options = {
        "max_tokens": 3, "temperature": 0, "top_k": 1, "top_p": 0.5, "min_p": 0.1, "seed": 9,
        "repetition_penalty": 1.1, "presence_penalty": 1, "frequency_penalty": 0.5,
        "logprobs": 2, "ignore_eos": True,
    }  # fmt: skip
    request = parsed({"prompt": "Hi", "stop": "x", "logit_bias": {"5": -1}, **options})
    assert request.options == SamplingOptions(**options, stop=("x",), logit_bias={5: -1.0})


def test_lines_of_the_batch_api():
    body = {"model": "m", "messages": HI, "max_completion_tokens": 4, "logprobs": True, "n": 1,
            "top_logprobs": 2, "stream": False, "stop": ["a", "b"]}  # fmt: skip
    chat = parsed({"custom_id": "c", "method": "POST", "url": "/v1/chat/completions", "body": body})
    assert (chat.custom_id, chat.is_openai, chat.is_chat, chat.raw) == ("c", True, True, False)
    assert (chat.options.max_tokens, chat.options.logprobs) == (4, 2)
    assert chat.options.stop == ("a", "b")
    text = parsed({"body": {"prompt": "Once", "logprobs": 0}})
    assert (text.is_chat, text.raw, text.options.logprobs) == (False, True, 0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ([], "no JSON object"),
        ({}, "either prompt or messages"),
        ({"prompt": "a", "messages": HI}, "either prompt or messages"),
        ({"prompt": 3}, "neither a text nor"),
        ({"prompt": [1, True]}, "neither a text nor"),
        ({"messages": ["Hi"]}, "role and content"),
        ({"prompt": "a", "tools": []}, "tools are not implemented"),
        ({"prompt": "a", "temperature": "0"}, "temperature is str"),
        ({"prompt": "a", "max_tokens": True}, "max_tokens is bool"),
        ({"prompt": "a", "temperature": -1}, "temperature is -1"),
        ({"prompt": "a", "stop": [1]}, "stop is no list"),
        ({"prompt": "a", "logit_bias": {"x": 1}}, "logit_bias is no object"),
        ({"prompt": "a", "logit_bias": {"9" * 5000: 1}}, "logit_bias is no object"),
        ({"prompt": "a", "logit_bias": {"2147483648": 1}}, "token id of logit_bias is 2147483648"),
        ({"prompt": "a", "logit_bias": {"1": 10**400}}, "beyond all floats"),
        ({"prompt": "a", "top_k": 1 << 31}, "top_k is 2147483648"),
        ({"prompt": "a", "custom_id": 4}, "custom_id is int"),
        ({"body": {"prompt": "a", "n": 2}}, "n can only be 1"),
        ({"body": {"prompt": "a", "stream": True}}, "stream can only be false"),
        ({"body": {"prompt": "a"}, "url": "/v1/embeddings"}, "/v1/embeddings"),
        ({"body": {"prompt": "a"}, "url": "/v1/chat/completions"}, "takes messages"),
        ({"body": {"prompt": "a"}, "method": "GET"}, "method POST"),
        ({"body": "a"}, "method POST"),
    ],
)  # fmt: skip
def test_what_is_not_understood_is_refused(fields, words):
    with pytest.raises(RequestError, match=words):
        parsed(fields)


@pytest.mark.parametrize("line", [b"{", b"[" * 100_000, b"\xff\xfe", b"nul", b'{"prompt": "\xff"}'])
def test_broken_json_is_refused(line):
    with pytest.raises(RequestError, match="not valid JSON"):
        parse_line(line, DEFAULTS, raw=False)
    assert "error" in error_line("x", line, RequestError("Why."))


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(
        ["prompt", "messages", "body", "custom_id", "stop", "seed", "logit_bias", "role",
         "content", "logprobs", "top_logprobs", "n", "url", "method"]) | st.text(max_size=2),
        inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_any_json_is_a_request_or_refused(value):
    line = json.dumps(value).encode()
    assert json.dumps(error_line("x", line, RequestError("Why.")))
    with suppress(RequestError):
        assert parse_line(line, DEFAULTS, raw=False).options.top_k == DEFAULTS.top_k


def test_errors_keep_the_form_and_name_of_their_line():
    why = RequestError("Why.")
    reason = {"code": "RequestError", "message": "Why."}
    assert error_line("x", b'{"custom_id": "c", "body": {}}', why) == {
        "id": "x", "custom_id": "c", "response": None, "error": reason
    }  # fmt: skip
    assert error_line("x", b'{"prompt": 1}', why) == {"id": "x", "error": reason}


def test_names_depend_on_line_and_settings():
    names = {line_id("a", b"b"), line_id("a", b"c"), line_id("b", b"b"), line_id("a\nb", b"")}
    assert len(names) == 4
    assert line_id("a", b"b\n") == line_id("a", b"b")


def test_blank_lines_do_not_count_and_long_ones_are_cut(tmp_path):
    path = tmp_path / "in"
    path.write_bytes(b"a\n\n  \nb" + b"x" * (2 * MAX_LINE_BYTES) + b"\nlast")
    lines = list(read_lines(path))
    assert [line[:1] for line in lines] == [b"a", b"b", b"l"]
    assert [len(line) for line in lines] == [2, MAX_LINE_BYTES + 1, 4]
    with pytest.raises(RequestError, match="more than"):
        parse_line(lines[1], DEFAULTS, raw=False)


NAMES = [f"name{index}" for index in range(5)]


def written(path, names) -> bytes:
    with ResultFile(path) as file:
        file.keep([])
        for name in names:
            file.append({"id": name, "text": name * 3})
    return path.read_bytes()


def test_a_torn_file_keeps_its_whole_lines(tmp_path):
    path = tmp_path / "out"
    whole = written(path, NAMES)
    cuts = {0, len(whole), *random.Random(3).sample(range(len(whole)), 40)}
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        with ResultFile(path) as file:
            kept = file.keep(NAMES)
            assert kept == whole[:cut].count(b"\n")
            for name in NAMES[kept:]:
                file.append({"id": name, "text": name * 3})
        assert path.read_bytes() == whole


def test_a_tail_of_zeros_is_cut_as_after_a_power_cut(tmp_path):
    path = tmp_path / "out"
    whole = written(path, NAMES[:2])
    path.write_bytes(whole + bytes(4096))
    with ResultFile(path) as file:
        assert file.keep(NAMES) == 2
    assert path.read_bytes() == whole


@pytest.mark.parametrize("content", [b"notes\nof mine\n", b'{"id": "other"}\n', b'{"id": 3}\n\n'])
def test_a_file_of_something_else_is_left_alone(tmp_path, content):
    path = tmp_path / "out"
    path.write_bytes(content)
    with ResultFile(path) as file, pytest.raises(BatchError, match=r"Line 1 of .* is no result"):
        file.keep(NAMES)
    assert path.read_bytes() == content


def test_more_results_than_requests_are_refused(tmp_path):
    path = tmp_path / "out"
    written(path, NAMES)
    with ResultFile(path) as file, pytest.raises(BatchError, match="Line 4"):
        file.keep(NAMES[:3])


def test_one_process_at_a_time(tmp_path):
    with ResultFile(tmp_path / "out"), pytest.raises(BatchError, match="Another process"):
        ResultFile(tmp_path / "out")


def test_results_go_into_a_plain_file_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(BatchError, match="is no plain file"):
            ResultFile(path)
