"""`tonnage run` as a user meets it: processes, pipes, signals, a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf, write_hf
from support.command import COMMAND, environment, refused, tonnage

KEYS = {
    "text", "tokens", "num_prompt_tokens", "num_generated_tokens", "time_to_first_token_ns",
    "decode_tokens_per_s", "peak_rss_bytes", "model", "finish_reason", "seed", "isa", "threads",
    "num_cached_tokens", "load_ns", "forecast", "bandwidth_share", "slowdown",
}  # fmt: skip
TEMPLATE = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}[answer]"


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model that goes on for as long as it may (its greedy answers never end)."""
    config = tiny_config("gemma2", max_position_embeddings=1 << 16)
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory) -> Path:
    """The same in another container, with a chat template."""
    config = tiny_config("gemma2", max_position_embeddings=1 << 16)
    folder = write_hf(tmp_path_factory.mktemp("model") / "hf", tiny_model(config, seed=1))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = TEMPLATE
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def greedy(folder: Path, *args: object, **more: str) -> dict:
    done = tonnage(folder, "run", *args, "--temperature", "0", "--json", **more)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_json_says_everything(model, tmp_path):
    answer = greedy(tmp_path, model, "Hello", "--max-tokens", 5, "--threads", 2, "--seed", 3)
    assert answer.keys() == KEYS
    assert answer["model"] == str(model)
    assert len(answer["tokens"]) == answer["num_generated_tokens"] == 5
    assert answer["finish_reason"] == "length"
    assert (answer["threads"], answer["seed"], answer["num_cached_tokens"]) == (2, 3, 0)
    assert 0 < answer["time_to_first_token_ns"] < 60e9
    assert answer["decode_tokens_per_s"] > 0
    assert model.stat().st_size < answer["peak_rss_bytes"] < 200 << 20


def test_text_streams_to_stdout(model, tmp_path):
    args = ("run", model, "Hello", "--max-tokens", 12, "--temperature", 0)
    done = tonnage(tmp_path, *args)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == greedy(tmp_path, model, "Hello", "--max-tokens", 12)["text"] + "\n"


@pytest.mark.parametrize("args", [("-",), ()])
def test_the_prompt_may_come_through_a_pipe(model, tmp_path, args):
    piped = greedy(tmp_path, model, *args, "--max-tokens", 4, text="Hello\n")
    assert piped["tokens"] == greedy(tmp_path, model, "Hello", "--max-tokens", 4)["tokens"]


def test_a_seed_draws_the_same_answer_with_any_number_of_threads(model, tmp_path):
    args = (model, "Hello", "--max-tokens", 40, "--json", "--seed", 11, "--temperature", 2)
    one, two = (
        json.loads(tonnage(tmp_path, "run", *args, "--threads", threads).stdout)["tokens"]
        for threads in (1, 3)
    )
    assert one == two
    other = json.loads(tonnage(tmp_path, "run", *args, "--seed", 12).stdout)["tokens"]
    assert one != other


def test_an_answer_ends_before_its_stop_string(model, tmp_path):
    text = greedy(tmp_path, model, "Hello", "--max-tokens", 12)["text"]
    stop = text[len(text) // 2]
    answer = greedy(tmp_path, model, "Hello", "--max-tokens", 12, "--stop", "zz", "--stop", stop)
    assert answer["text"] == text[: text.index(stop)]
    assert answer["finish_reason"] == "stop"


def test_logprobs_are_those_of_the_chosen_and_the_best(model, tmp_path):
    answer = greedy(tmp_path, model, "Hello", "--max-tokens", 3, "--logprobs", 2)
    assert [one["token"] for one in answer["logprobs"]] == answer["tokens"]
    for one in answer["logprobs"]:
        assert one["top"][0] == [one["token"], pytest.approx(one["logprob"])]
        assert one["top"][0][1] >= one["top"][1][1]
        assert one["logprob"] < 0


def test_the_chat_template_and_the_system_message_reach_the_model(chat_folder, model, tmp_path):
    answer = greedy(tmp_path, chat_folder, "Hi", "--system", "Be", "--max-tokens", 3)
    plain = greedy(tmp_path, model, "[system]Be[user]Hi[answer]", "--raw", "--max-tokens", 3)
    assert answer["num_prompt_tokens"] == plain["num_prompt_tokens"]
    raw = greedy(tmp_path, chat_folder, "Hi", "--raw", "--max-tokens", 3)
    assert raw["num_prompt_tokens"] < 3


def test_a_folder_is_quantized_on_request(chat_folder, tmp_path):
    for precision in ("8bit", "4bit"):
        answer = greedy(tmp_path, chat_folder, "Hi", "--max-tokens", 3, "--precision", precision)
        assert answer["num_generated_tokens"] == 3


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--temperature", "-1"), ("temperature", "-1", "100")),
        (("--temperature", "nan"), ("temperature", "nan")),
        (("--top-p", "7"), ("top_p", "7")),
        (("--max-tokens", "-3"), ("max_tokens", "-3")),
        (("--logprobs", "4"), ("--json",)),
        (("--raw", "--system", "x"), ("--system", "--raw")),
        (("--context", "1"), ("context", "65,536")),
        (("--context", "99999999"), ("99,999,999", "65,536")),
        (("--threads", "0"), ("0 threads", "256")),
        (("--precision", "3bit"), ("3bit", "8bit", "4bit")),
        (("--kv", "int4"), ("int4", "f16", "int8")),
        (("--memory", "10KiB"), ("10.0 KiB", "short", "--context")),
        (("--memory", "7 apples"), ("apples",)),
        (("--stop", ""), ("stop string", "empty")),
        (("--system", "x"), ("base model", "chat template", "--system")),
    ],
)
def test_a_wrong_option_is_one_sentence(model, tmp_path, args, words):
    sentence = refused(tonnage(tmp_path, "run", model, "Hello", *args))
    assert all(word in sentence for word in words), sentence


def test_a_run_imports_nothing_heavy(model, tmp_path):
    script = (
        "import sys; from tonnage.cli import main; code = main(sys.argv[1:]);"
        "heavy = 'numpy jinja2 tqdm huggingface_hub readline subprocess http asyncio'.split();"
        "sys.exit(code or ' '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "run", model, "Hello", "--max-tokens", "1", "--raw"],
        capture_output=True,
        text=True,
        env=environment(tmp_path),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_raw_prompt_from_a_pipe_keeps_its_line_ends(model, tmp_path):
    def num_tokens(*how):
        told = tonnage(
            tmp_path, "run", model, *how, "--json", "--max-tokens", "1", text="a\n\r\n\n"
        )
        return json.loads(told.stdout)["num_prompt_tokens"]

    assert num_tokens("--raw") == num_tokens("--raw", "-") == 5


def test_an_empty_pipe_is_no_prompt(model, tmp_path):
    assert "empty" in refused(tonnage(tmp_path, "run", model))


def test_a_reader_that_leaves_ends_it_quietly(model, tmp_path):
    command = [*COMMAND, "run", str(model), "Hello", "--context", "20000", "--temperature", "0"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(tmp_path)
    ) as process:
        assert process.stdout.read(1)
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr.read() == b""


def test_ctrl_c_ends_one_answer_with_130(model, tmp_path):
    command = [*COMMAND, "run", str(model), "Hello", "--context", "20000", "--temperature", "0"]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment(tmp_path),
    ) as process:
        assert process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
        assert stderr == b"\n"


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, command: list[str], env: dict[str, str], term: str = "dumb") -> None:
        self._main, inner = pty.openpty()
        # On a dumb terminal readline sends no escape sequences of its own.
        env = {**env, "TERM": term}
        self._process = subprocess.Popen(
            command, stdin=inner, stdout=inner, stderr=inner, env=env, start_new_session=True
        )
        os.close(inner)
        self.output = ""

    def send(self, text: str | bytes) -> None:
        os.write(self._main, text if isinstance(text, bytes) else text.encode())

    def interrupt(self) -> None:
        """Do what Ctrl-C does, when readline has surely begun to wait (it misses one before)."""
        time.sleep(0.3)
        self._process.send_signal(signal.SIGINT)

    def wait_for(self, pattern: str, seconds: float = 60) -> str:
        """Return what came up to the end of `pattern`, and forget it."""
        end = time.monotonic() + seconds
        while True:
            found = re.search(pattern, self.output)
            if found:
                head, self.output = self.output[: found.end()], self.output[found.end() :]
                return head
            assert time.monotonic() < end, f"no {pattern!r} in {self.output[-2000:]!r}"
            if select.select([self._main], [], [], 0.2)[0]:
                self.output += os.read(self._main, 65536).decode("utf-8", "replace")

    def exit_code(self) -> int:
        return self._process.wait(60)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._main)


@pytest.fixture
def start_chat(chat_folder, tmp_path):
    """A function that starts a chat with options, and ends what is left of it."""
    started: list[Terminal] = []

    def start(*args: str) -> Terminal:
        command = [*COMMAND, "run", str(chat_folder), *args]
        # As with most locales: the C locale alone forgives bytes that are no text.
        env = environment(tmp_path, COLUMNS="1000", PYTHONIOENCODING="utf-8:strict")
        started.append(Terminal(command, env))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


def test_a_chat_outlives_ctrl_c_and_ends_with_ctrl_d(start_chat):
    chat = start_chat("--temperature", "0", "--context", "20000", "--system", "Be brief")
    chat.wait_for(r"/help for help")
    chat.wait_for("> ")
    chat.send("Hello there\n")
    chat.wait_for(r"Hello there\r\n.{20}")
    chat.interrupt()
    chat.wait_for(r"\(stopped\)\r\n> ")
    chat.interrupt()
    chat.wait_for(r"\(Ctrl-D or /exit ends\)\r\n> ")
    chat.send("/nonsense\n")
    chat.wait_for(r"There is no /nonsense; (.|\n|\r)*/help shows them(.|\n|\r)*> ")
    chat.send("/clear\n")
    chat.wait_for(r"forgotten(.|\n|\r)*> ")
    chat.send("Again\n")
    chat.wait_for(r"Again\r\n.{20}")
    chat.interrupt()
    chat.wait_for(r"\(stopped\)\r\n> ")
    chat.send("\x04")
    assert chat.exit_code() == 0


def test_a_chat_survives_a_prompt_that_is_too_long_or_no_text(start_chat):
    chat = start_chat("--context", "64", "--max-tokens", "3")
    chat.wait_for("/help for help(.|\n|\r)*> ")
    chat.send(b"/caf\xe9\n")
    chat.wait_for(r"There is no /caf.*\.(.|\n|\r)*> ")
    chat.send("x" * 100 + "\n")
    chat.wait_for(r"tokens and the context holds 64(.|\n|\r)*> ")
    chat.send("Hi\n")
    chat.wait_for(r"Hi\r\n(.|\n|\r)*> ")
    chat.send("/exit\n")
    assert chat.exit_code() == 0


def test_a_base_model_says_once_that_it_goes_on_with_the_text(model, tmp_path):
    command = [*COMMAND, "chat", str(model), "--max-tokens", "3", "--no-history"]
    chat = Terminal(command, environment(tmp_path, COLUMNS="1000"))
    try:
        chat.wait_for(r"This is a base model: it goes on with the text(.|\n|\r)*> ")
        chat.send("Once upon\n")
        told = chat.wait_for(r"upon\r\n(.|\n|\r)*> ")
        assert "base model" not in told
        chat.send("/exit\n")
        assert chat.exit_code() == 0
    finally:
        chat.close()


def test_what_is_pasted_is_one_message(chat_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # A terminal that knows brackets round what is pasted: readline asks for them.
    command = [*COMMAND, "run", str(chat_folder), "--max-tokens", "2"]
    chat = Terminal(command, environment(tmp_path, COLUMNS="1000"), term="xterm")
    try:
        chat.wait_for(r"/help for help(.|\n|\r)*\x1b\[\?2004h(.|\n|\r)*> ")
        chat.send("\x1b[200~one\ntwo\n\nthree\x1b[201~\n")
        chat.wait_for(r"three(.|\n|\r)*> ")
        chat.send("/save talk.json\n")
        chat.wait_for(r"\(1 turns in talk.json\)")
    finally:
        chat.close()
    kept = json.loads(Path("talk.json").read_text())["messages"]
    assert kept[0] == {"role": "user", "content": "one\ntwo\n\nthree"}
