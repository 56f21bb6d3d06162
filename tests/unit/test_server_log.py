"""Log lines: what each holds as text and as JSON, and whose request it belongs to."""

import io
import json
import logging
import os
import re
from argparse import Namespace

import pytest

from tonnage.cli.arguments import parse
from tonnage.cli.opening import stated
from tonnage.core.options import filled
from tonnage.server.observe.log import REQUEST, RequestContext, configure, frames_of, log
from tonnage.server.options import LOG_LEVELS, LogOptions

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def _no_trace_of_this_test():
    logger = logging.getLogger("tonnage")
    before = (logger.handlers, logger.level, logger.propagate)
    token = REQUEST.set(None)
    yield
    REQUEST.reset(token)
    logger.handlers, logger.level, logger.propagate = before


def line_of(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_line_of_text_has_time_level_message_and_fields(capsys):
    configure("info", "text")
    log(logging.WARNING, "Pages ran short.", model="tiny", pages=7, share=0.25)
    line = line_of(capsys)
    assert re.fullmatch(TIME + " WARNING Pages ran short. model=tiny pages=7 share=0.25", line)


def test_a_line_of_json_has_the_same_as_values(capsys):
    configure("info", "json")
    log(logging.ERROR, 'It "failed".', status=500, seconds=0.5)
    told = json.loads(line_of(capsys))
    assert re.fullmatch(TIME, told.pop("time"))
    assert told == {"level": "error", "message": 'It "failed".', "status": 500, "seconds": 0.5}


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_line_names_the_request_and_its_tenant(capsys, form):
    configure("info", form)
    REQUEST.set(RequestContext("req_1", "alice"))
    log(logging.INFO, "In a request.")
    REQUEST.set(RequestContext("req_2"))
    log(logging.INFO, "Without keys.")
    REQUEST.set(None)
    log(logging.INFO, "Outside.")
    first, second, third = capsys.readouterr().err.splitlines()
    if form == "text":
        assert first.endswith("In a request. request_id=req_1 tenant=alice")
        assert second.endswith("Without keys. request_id=req_2")
        assert third.endswith("Outside.")
    else:
        assert (json.loads(first)["request_id"], json.loads(first)["tenant"]) == ("req_1", "alice")
        assert json.loads(second)["request_id"] == "req_2"
        assert "tenant" not in json.loads(second)
        assert not {"request_id", "tenant"} & set(json.loads(third))


@pytest.mark.parametrize("lowest", LOG_LEVELS)
def test_lines_below_the_level_are_left_out(capsys, lowest):
    configure(lowest, "json")
    for name in LOG_LEVELS:
        log(getattr(logging, name.upper()), "A line.")
    shown = [json.loads(line)["level"] for line in capsys.readouterr().err.splitlines()]
    assert shown == list(LOG_LEVELS[LOG_LEVELS.index(lowest) :])


def test_configuring_again_replaces_what_was(capsys):
    configure("info", "text")
    configure("info", "json")
    log(logging.INFO, "Once.")
    assert json.loads(line_of(capsys))["message"] == "Once."


@pytest.mark.parametrize("form", ["text", "json"])
def test_the_log_moves_no_cursor_and_a_message_is_one_line(capsys, form):
    configure("info", form)
    log(logging.ERROR, "a\x1b[2J was\nnot loaded\x07", name="b\x1b[2J\nc")
    line = line_of(capsys)
    assert "a[2J was not loaded" in line
    assert not set(line) & set("\x1b\x07")


def test_a_field_with_blanks_cannot_pass_for_others(capsys):
    configure("info", "text")
    log(logging.INFO, "A line.", model="a status=200", other='say "x"')
    assert line_of(capsys).endswith(r'A line. model="a status=200" other="say \"x\""')


def raise_chain() -> None:
    try:
        raise ValueError("the secret prompt")
    except ValueError as error:
        raise KeyError("the secret key") from error


def test_frames_tell_where_and_not_what_was_said():
    with pytest.raises(KeyError) as caught:
        raise_chain()
    lines = frames_of(caught.value).splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["KeyError", "ValueError"]
    number = raise_chain.__code__.co_firstlineno
    assert lines[-1] == f'  File "{__file__}", line {number + 2}, in raise_chain'
    assert "secret" not in "".join(lines)


def test_frames_of_an_endless_recursion_stay_few():
    def again() -> None:
        again()

    with pytest.raises(RecursionError) as caught:
        again()
    assert 10 < len(frames_of(caught.value).splitlines()) < 100


def test_a_traceback_stands_below_its_line_or_in_a_field(capsys):
    configure("info", "text")
    log(logging.ERROR, "Failed.", traceback='ValueError\n  File "x", line 1, in f')
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.endswith("ERROR Failed.")
    assert rest == ["  ValueError", '    File "x", line 1, in f']
    configure("info", "json")
    log(logging.ERROR, "Failed.", traceback="ValueError\n  File")
    assert json.loads(line_of(capsys))["traceback"] == "ValueError\n  File"


class Gone(io.StringIO):
    """A log whose reader has ended."""

    def write(self, text: str) -> int:
        raise BrokenPipeError


def test_a_log_that_nobody_reads_any_more_stops_nothing(monkeypatch):
    configure("info", "text")
    monkeypatch.setattr("sys.stderr", Gone())
    log(logging.INFO, "A line.")


def parsed(*options: str) -> Namespace:
    return parse(["serve", "model", *options])


def test_the_options_of_the_command_line():
    usual = filled(LogOptions, stated(LogOptions, parsed()))
    assert usual == {"log_level": "info", "log_format": "text"}
    told = parsed("--log-level", "error", "--log-format", "json")
    assert (told.log_level, told.log_format) == ("error", "json")
    with pytest.raises(SystemExit):
        parsed("--log-format", "xml")


def test_a_pipe_that_nobody_reads_stops_nothing(monkeypatch):
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb") as reader, os.fdopen(write_end, "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        configure("info", "text")
        for number in range(3000):
            log(logging.INFO, f"line {number}")
        held = os.read(reader.fileno(), 1 << 20).decode().splitlines()
        log(logging.INFO, "read again")
        dropped, last = os.read(reader.fileno(), 1 << 20).decode().splitlines()[-2:]
    assert "line 0" in held[0]
    assert 500 < len(held) < 3000
    assert f"WARNING {3000 - len(held)} lines were dropped: nobody read them." in dropped
    assert last.endswith("INFO read again")
