"""Parts of the command line that need no model."""

import io
import json
import sys
from types import SimpleNamespace

import pytest

from tonnage.benchmark.report import ColdStart, Report, measure_cold_start
from tonnage.benchmark.speed import Ceiling, Figure
from tonnage.cli.arguments import parse
from tonnage.cli.commands.bench import _numbers
from tonnage.cli.commands.chat import Chat
from tonnage.cli.commands.run import sampling_options
from tonnage.cli.failure import report_failure
from tonnage.cli.render.bench_table import bar, render
from tonnage.cli.render.terminal import StatusLine, printable
from tonnage.core.errors import ProbeError, PullError, RequestError
from tonnage.core.sampling import SamplingOptions
from tonnage.server.observe.pressure import PressureLog


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_what_is_not_said_keeps_the_default():
    assert sampling_options(parse(["run"])) == SamplingOptions()


def test_every_sampling_option_arrives():
    line = (
        "run m p --max-tokens 1 --temperature 2 --top-k 3 --top-p 0.4 --min-p 0.5"
        " --repetition-penalty 6 --presence-penalty 7 --frequency-penalty 8 --seed 9"
        " --stop a --stop b --logprobs 10"
    )
    assert sampling_options(parse(line.split())) == SamplingOptions(
        max_tokens=1, temperature=2, top_k=3, top_p=0.4, min_p=0.5, repetition_penalty=6,
        presence_penalty=7, frequency_penalty=8, seed=9, stop=("a", "b"), logprobs=10,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (PullError("No network."), 2, "tonnage: No network.\n"),
        (MemoryError(), 2, "tonnage: The system has not enough memory left; use a smaller"),
        (OSError(28, "No space left", "/x"), 2, "tonnage: /x: No space left.\n"),
        (PullError("A\n b \tc: d"), 2, "tonnage: A b c: d.\n"),
        (KeyError("k"), 1, "tonnage: A bug: KeyError: 'k'. Run it again with --debug"),
        (KeyboardInterrupt(), 130, "\n"),
    ],
)
def test_every_failure_is_a_sentence_and_a_code(capsys, error, code, sentence):
    assert report_failure(error, debug=False) == code
    printed = capsys.readouterr().err
    assert printed.startswith(sentence)
    assert printed.count("\n") == 1


def test_debug_shows_where_it_happened(capsys):
    with pytest.raises(PullError) as caught:
        raise PullError("No network.")
    assert report_failure(caught.value, debug=True) == 2
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert "test_debug_shows_where_it_happened" in printed


def test_a_terminal_gets_no_control_characters_a_pipe_gets_all():
    text = "a\x1b[2Jb\tc\nd\x07\x9be\u00e9"
    assert printable(text, Screen()) == "a[2Jb\tc\nde\u00e9"
    assert printable(text, io.StringIO()) == text


def test_a_status_line_stays_off_pipes_and_quick_work():
    pipe, screen = io.StringIO(), Screen()
    for stream, quiet_s in ((pipe, 0), (screen, 60)):
        line = StatusLine(stream, quiet_s)
        line.show("loading 5 %")
        line.close()
        assert stream.getvalue() == ""


def test_a_status_line_cleans_up_behind_itself():
    screen = Screen()
    line = StatusLine(screen, 0)
    line.show("loading 5 %")
    line.close()
    line.close()
    assert screen.getvalue() == "\r\x1b[Kloading 5 %\r\x1b[K"


def test_bars_fill_by_eighths_of_a_cell():
    assert bar(0) == "░" * 10
    assert bar(1) == bar(7.5) == "█" * 10
    assert bar(0.5) == "█" * 5 + "░" * 5
    assert bar(0.5125) == "█" * 5 + "▏" + "░" * 4
    assert {len(bar(i / 997)) for i in range(998)} == {10}


def test_numbers_are_read_and_refused():
    assert _numbers("--rows", " 1, 8,32 ", 256) == [1, 8, 32]
    assert _numbers("--rows", "", 256) == []
    for wrong in ("0", "257", "x", "1 2", "９", "1e2", "9" * 4000):
        with pytest.raises(RequestError, match="--rows"):
            _numbers("--rows", wrong, 256)


def test_a_figure_knows_its_shares():
    figure = Figure(8, 0.5, macs=50 * 10**9, read_bytes=2 * 10**9, ceiling=Ceiling(20.0, 400.0))
    assert figure.tokens_per_s == 16
    assert figure.gops == 200
    assert figure.peak_share == 0.5
    assert figure.gb_s == 4
    assert figure.bandwidth_share == 0.2


REPORT = Report(
    model="m", isa="avx2", threads=2, weight_bytes_per_token=100 << 20,
    decode=(Figure(1, 1 / 150, 200 * 10**6, 10**8, Ceiling(20.0, 1000.0)),),
    prefill=(Figure(512, 0.256, 64 * 10**9, 10**8, Ceiling(20.08, 1000.0)),),
    start=ColdStart(0.5, 200 << 20),
)  # fmt: skip


def test_the_table_shows_each_speed_beside_its_ceiling():
    lines = render(REPORT).splitlines()
    assert lines[0] == "m, avx2, 2 threads, 100.0 MiB of weights per step"
    assert lines[1].startswith("ceilings: memory reads 20.0 GB/s, int8 1,000 GOPS")
    assert "cold start 0.50 s, peak memory 200.0 MiB" in lines
    assert "15.0 of 20.0 ███████▌░░  75%" in lines[-2]
    assert "500 of 1,000 █████░░░░░  50%" in lines[-1]
    assert max(map(len, lines)) <= 100


def test_a_report_as_json_has_every_figure():
    values = json.loads(json.dumps(REPORT.to_dict()))
    assert values["decode"] == [{
        "rows": 1, "tokens_per_s": pytest.approx(150), "bandwidth_share": pytest.approx(0.75),
        "peak_share": pytest.approx(0.06), "gb_s": pytest.approx(15), "gops": pytest.approx(60),
        "read_bandwidth_gb_s": 20.0, "int8_peak_gops": 1000.0,
    }]  # fmt: skip
    assert values["prefill"] == [{
        "tokens": 512, "tokens_per_s": pytest.approx(2000), "peak_share": pytest.approx(0.5),
        "gops": pytest.approx(500), "int8_peak_gops": 1000.0,
    }]  # fmt: skip
    assert (values["cold_start_s"], values["peak_rss_bytes"]) == (0.5, 200 << 20)


class ScriptedEngine:
    """Answers with given texts and remembers the prompts."""

    tokenizer = SimpleNamespace(chat_template="{{ messages }}")

    def __init__(self, *answers):
        self.answers = list(answers)
        self.prompts = []

    def generate(self, prompt, options, *, raw):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.prompts.append(prompt)
        return ScriptedAnswer(answer)


class ScriptedAnswer:
    finish_reason = "stop"

    def __init__(self, pieces):
        self.pieces = pieces
        self.text = ""
        self.tokens = []

    def __iter__(self):
        for piece in self.pieces:
            if piece is KeyboardInterrupt:
                raise KeyboardInterrupt
            self.text += piece
            yield piece


def said(*texts):
    roles = ("user", "assistant")
    return [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]


def test_a_chat_gives_the_whole_conversation(capsys):
    engine = ScriptedEngine(["Hel", "lo"], ["B"])
    chat = Chat(engine, SamplingOptions(), system=None, raw=False)
    assert chat._line("Hi")
    assert chat._line("More")
    assert engine.prompts == [said("Hi"), said("Hi", "Hello", "More")]
    assert capsys.readouterr().out == "Hello\nB\n"


def test_a_stopped_answer_counts_as_far_as_it_came(capsys):
    engine = ScriptedEngine(["He", KeyboardInterrupt], ["B"])
    chat = Chat(engine, SamplingOptions(), system="S", raw=False)
    chat.turn("Hi")
    chat.turn("More")
    assert engine.prompts[1] == [{"role": "system", "content": "S"}, *said("Hi", "He", "More")]
    assert capsys.readouterr().out == "He (stopped)\nB\n"


def test_clear_keeps_the_system_message_only(capsys):
    engine = ScriptedEngine(["A"], ["B"])
    chat = Chat(engine, SamplingOptions(), system="S", raw=False)
    chat.turn("Hi")
    assert chat._line("/clear")
    chat.turn("Again")
    assert engine.prompts[1] == [{"role": "system", "content": "S"}, *said("Again")]
    capsys.readouterr()


def test_a_refused_turn_did_not_happen(capsys):
    engine = ScriptedEngine(["A"], RequestError("Too long."), ["B"])
    chat = Chat(engine, SamplingOptions(), system=None, raw=False)
    for line in ("Hi", "x" * 999, "Short"):
        assert chat._line(line)
    assert engine.prompts[-1] == said("Hi", "A", "Short")
    assert capsys.readouterr().err.startswith("tonnage: Too long.\n")


def test_a_raw_chat_continues_one_text(capsys):
    engine = ScriptedEngine([" there"], ["."])
    chat = Chat(engine, SamplingOptions(), system=None, raw=True)
    chat.turn("Hello")
    chat.turn(", you")
    assert engine.prompts == ["Hello", "Hello there, you"]
    capsys.readouterr()


def test_words_that_begin_with_a_slash_are_commands(capsys):
    engine = ScriptedEngine(["A"], ["B"])
    chat = Chat(engine, SamplingOptions(), system=None, raw=False)
    assert chat._line("/help")
    assert chat._line("/etc/passwd is what?")
    assert not chat._line(" /exit ")
    assert engine.prompts == [said("/etc/passwd is what?")]
    assert "/clear" in capsys.readouterr().out
    assert chat._line("/sistem You are a cook")
    assert "There is no /sistem; did you mean /system" in capsys.readouterr().out
    assert chat._line("//sistem")
    assert engine.prompts[1:] == [said("/etc/passwd is what?", "A", "/sistem")]
    capsys.readouterr()


def test_a_chat_ends_where_the_input_ends(monkeypatch, capsys):
    def nothing_more(prompt):
        raise EOFError

    monkeypatch.setattr("builtins.input", nothing_more)
    monkeypatch.setitem(sys.modules, "readline", None)  # as in a Python without it
    engine = ScriptedEngine()
    engine.source = SimpleNamespace(name="m")
    engine.plan = SimpleNamespace(context_tokens=4096, threads=2)
    engine.runtime = SimpleNamespace(kernels="scalar")
    assert Chat(engine, SamplingOptions(), system=None, raw=False).loop() == 0
    assert "m: 4,096 tokens of context, 2 threads, scalar." in capsys.readouterr().err


def test_what_gives_way_is_a_line_a_second(monkeypatch):
    times = iter([10.0, 10.1, 10.9, 11.0, 12.5])
    monkeypatch.setattr("tonnage.server.observe.pressure.monotonic", lambda: next(times))
    lines: list[str] = []
    log = PressureLog(lines.append)
    for word in "abcde":
        log(f"{word}.")
    assert lines == ["a.", "d. (2 more before)", "e."]


def test_a_cold_start_runs_nothing_of_the_users_folder(tmp_path, monkeypatch):
    (tmp_path / "tonnage.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ProbeError, match="cold start failed: There is no file"):
        measure_cold_start("missing.gguf", [], 1)


@pytest.mark.parametrize(
    "line",
    ["m p --seed 1", "m --seed 1 p", "--seed 1 m p", "--raw m --seed 1 p", "--raw m p --seed 1"],
)
def test_options_stand_wherever_they_like(line):
    args = parse(["run", *line.split()])
    assert (args.model, args.prompt, args.seed) == ("m", "p", 1)
    assert parse(["run", "m", "--seed", "1", "-"]).prompt == "-"
    assert parse(["run", "--raw", "m", "--seed", "1"]).prompt is None
    assert parse(["run", "m", "--raw", ""]).prompt == ""


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("run m --sead 1", "`tonnage run` has no option --sead; did you mean --seed"),
        ("run m --temprature=0", "`tonnage run` has no option --temprature=0; did you mean"),
        ("run m p q", "`tonnage run` has no place for 'q'"),
        ("run m --seed 1 p q", "`tonnage run` has no place for 'q'"),
        ("plan m --port 1", "`tonnage plan` has no option --port"),
        ("list x", "`tonnage list` has no place for 'x'"),
    ],
)
def test_what_is_not_understood_is_one_sentence(capsys, line, sentence):
    with pytest.raises(SystemExit) as caught:
        parse(line.split())
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"tonnage: {sentence}")
    assert said.count("\n") == 1
