"""Commands of a chat, what is typed, and lines that end between words."""

import io
import json
from contextlib import suppress
from types import SimpleNamespace

import pytest

from tonnage.cli.arguments import parse
from tonnage.cli.chat import lines as lines_module
from tonnage.cli.chat.conversation import Conversation
from tonnage.cli.chat.lines import Lines, history_file
from tonnage.cli.chat.settings import set_option
from tonnage.cli.commands.chat import Chat
from tonnage.cli.commands.run import _prompt
from tonnage.cli.render.wrapped import WrappedOutput
from tonnage.core.errors import PullError, RequestError
from tonnage.core.sampling import SamplingOptions


class Engine:
    """Answers with given texts; prompts and options are kept."""

    def __init__(self, *answers, name="m", template="{{ messages }}"):
        self.answers, self.asked, self.options = list(answers), [], []
        self.tokenizer = SimpleNamespace(chat_template=template)
        self.source = SimpleNamespace(name=name)
        self.plan = SimpleNamespace(context_tokens=4096, threads=2)
        self.runtime = SimpleNamespace(kernels="scalar")

    def generate(self, prompt, options, *, raw):
        self.asked.append(prompt)
        self.options.append(options)
        return Answer(self.answers.pop(0))


class Answer:
    finish_reason = "stop"
    num_cached_tokens, decode_tokens_per_s, time_to_first_token_ns = 7, 12.5, 3_000_000

    def __init__(self, text):
        self.text, self.tokens, self.prompt = text, [1, 2], [0] * 10

    def __iter__(self):
        return iter([self.text])


def chat_with(engine, **more):
    return Chat(engine, SamplingOptions(), **{"system": None, "raw": False, **more})


def test_regen_asks_the_same_again_and_undo_takes_it_back(capsys):
    engine = Engine("A", "B", "C")
    chat = chat_with(engine)
    for line in ("Hi", "/regen", "/undo", "Other"):
        assert chat._line(line)
    hi = [{"role": "user", "content": "Hi"}]
    assert engine.asked == [hi, hi, [{"role": "user", "content": "Other"}]]
    assert chat._line("/undo")
    assert chat._line("/undo")
    assert "nothing was said yet" in capsys.readouterr().out


def test_a_conversation_goes_on_from_a_file(tmp_path, capsys):
    file = tmp_path / "talk.json"
    first = chat_with(Engine("A"), system="S")
    for line in ("Hi\nyou", f"/save {file}"):
        first._line(line)
    second = Engine("B")
    chat = chat_with(second)
    for line in (f"/load {file}", "More"):
        chat._line(line)
    assert second.asked == [
        [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "Hi\nyou"},
            {"role": "assistant", "content": "A"},
            {"role": "user", "content": "More"},
        ]
    ]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("no", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no messages"),
        ('{"messages": []}', "no messages"),
        ('{"messages": [{"role": 1, "content": "x"}]}', "no messages"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "take turns"),
    ],
)
def test_a_file_that_is_no_conversation_is_a_sentence(tmp_path, content, words, capsys):
    file = tmp_path / "x"
    file.write_text(content)
    said = Conversation(None, goes_on=False)
    said.add("a", "b")
    with pytest.raises(RequestError, match=words):
        said.load(file)
    assert len(said) == 1
    assert chat_with(Engine())._line("/load /nowhere/x")
    assert "/nowhere/x: No such file" in capsys.readouterr().err


def test_set_changes_sampling_and_refuses_what_run_refuses(capsys):
    engine = Engine("A", "B")
    chat = chat_with(engine)
    for line in ("/set temperature 0", "Hi", "/set top-p=0.5", "/set temperature default", "More"):
        chat._line(line)
    assert [one.temperature for one in engine.options] == [0, 0.8]
    assert engine.options[1].top_p == 0.5
    for words, sentence in (
        ("temprature 1", "did you mean temperature"),
        ("top_k x", "top_k is 'x'; give a whole number"),
        ("top_k", "top_k needs a value"),
        ("temperature -1", "temperature"),
    ):
        with pytest.raises(RequestError, match=sentence):
            set_option(SamplingOptions(), words)
    capsys.readouterr()


def test_the_system_message_changes(capsys):
    engine = Engine("A")
    chat = chat_with(engine)
    for line in ("/system", "/system You cook", "Hi"):
        chat._line(line)
    assert engine.asked[0][0] == {"role": "system", "content": "You cook"}
    assert "(no system message)" in capsys.readouterr().out


def test_another_model_takes_over_and_a_missing_one_does_not(capsys):
    old, new = Engine("A", "C", name="old"), Engine("B", name="new", template=None)
    answers = [(new, None), (old, PullError("No network."))]
    chat = chat_with(old, reopen=lambda name: answers.pop(0))
    for line in ("Hi", "/model new", " and"):
        chat._line(line)
    assert new.asked == ["HiA and"]
    assert "base model" in capsys.readouterr().err
    chat._line("/model gone")
    assert capsys.readouterr().err == "tonnage: No network.\n"
    chat_with(old)._line("/model x")
    assert "plan file" in capsys.readouterr().err


def test_stats_tell_of_the_last_answer(capsys):
    chat = chat_with(Engine("A"))
    for line in ("/stats", "Hi", "/stats"):
        chat._line(line)
    said = capsys.readouterr().out
    assert "(nothing was answered yet)" in said
    assert "10 tokens, 7 of them known before" in said
    assert "2 tokens, 12.5 a second, the first after 3 ms" in said
    assert "12 of 4,096 tokens used" in said


def typed(monkeypatch, *given):
    waiting = list(given)
    monkeypatch.setattr("builtins.input", lambda prompt="": waiting.pop(0))
    monkeypatch.setattr(lines_module, "_waiting_lines", list)


def test_three_quotes_make_one_message_of_several_lines(monkeypatch):
    typed(monkeypatch, '"""', "a", "", "  b", '"""', '"""c', 'd"""', '"""e"""', "f")
    lines = Lines(None)
    assert [lines.read() for _ in range(4)] == ["a\n\n  b", "c\nd", "e", "f"]


def test_history_is_kept_for_the_user_alone_and_read_again(monkeypatch, tmp_path):
    file = tmp_path / "state" / "tonnage" / "history"
    assert history_file({"XDG_STATE_HOME": str(tmp_path / "state")}) == file
    typed(monkeypatch, "one", '"""two', 'lines"""', " ")
    lines = Lines(file)
    for _ in range(3):
        lines.read()
    assert [json.loads(line) for line in file.read_text().splitlines()] == ["one", "two\nlines"]
    assert file.stat().st_mode & 0o777 == 0o600
    assert lines_module._kept_lines(file) == ["one", "two\nlines"]
    file.write_bytes(b"\xff\n")
    assert lines_module._kept_lines(file) == []


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        (["one two", " three four"], "one two\nthree four"),
        (["a" * 9, " b", "cd e"], "aaaaaaaaa\nbcd e"),
        (["x" * 35], "x" * 35),
        (["one two\nthree"], "one two\nthree"),
        (["```\nlong line of code here\n```\nand words here"],
         "```\nlong line of code here\n```\nand words\nhere"),
        (["日本語の文章です"], "日本語の文\n章です"),
    ],
)  # fmt: skip
def test_words_are_not_cut_at_the_edge(monkeypatch, pieces, shown):
    monkeypatch.setenv("COLUMNS", "11")
    screen, pipe = Screen(), io.StringIO()
    for stream in (screen, pipe):
        out = WrappedOutput(stream)
        for piece in pieces:
            out.write(piece)
        out.end()
    assert screen.getvalue() == shown
    assert pipe.getvalue() == "".join(pieces)


@pytest.mark.parametrize("number", range(1, 12))
def test_ctrl_c_while_a_word_is_written_neither_doubles_it_nor_widens_a_line(monkeypatch, number):
    monkeypatch.setenv("COLUMNS", "14")

    class Interrupted(Screen):
        count = 0

        def write(self, text):
            super().write(text)
            self.count += 1
            if self.count == number:
                raise KeyboardInterrupt

    out = WrappedOutput(screen := Interrupted())
    with suppress(KeyboardInterrupt):
        for piece in ("one two three\n", "four five six ", "seven eight nine ten"):
            out.write(piece)
    screen.count = number
    out.write(" (stopped)")
    out.end()
    words = screen.getvalue().split()
    assert words[-1] == "(stopped)"
    assert len(words) == len(set(words))
    assert max(map(len, screen.getvalue().split("\n"))) <= 14


def test_a_prompt_comes_from_a_file(tmp_path):
    file = tmp_path / "notes"
    file.write_text("line 1\nline 2\n")
    assert _prompt(parse(["run", "m", "-f", str(file)])) == "line 1\nline 2"
    both = parse(["run", "m", "Sum up:", "--file", str(file)])
    assert _prompt(both) == "Sum up:\n\nline 1\nline 2"
    file.write_bytes(b"ab\xff")
    with pytest.raises(RequestError, match=r"not UTF-8 \(byte 2\)"):
        _prompt(both)
    file.write_text(" \n")
    with pytest.raises(RequestError, match="is empty"):
        _prompt(both)
