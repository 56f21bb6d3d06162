"""A conversation on a terminal: lines in, answers out, and commands that begin with a slash."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from tonnage.cli.chat.conversation import Conversation
from tonnage.cli.chat.lines import FENCE, Lines, history_file
from tonnage.cli.opening import is_base, open_engine
from tonnage.cli.render.terminal import PullProgress
from tonnage.cli.render.wrapped import WrappedOutput
from tonnage.core.errors import ContextLengthError, RequestError, TonnageError
from tonnage.core.nearest import did_you_mean
from tonnage.core.sampling import SamplingOptions
from tonnage.store.catalog import open_catalogs
from tonnage.store.source import resolve

if TYPE_CHECKING:
    from tonnage.engine.engine import Engine
    from tonnage.engine.generation import Generation

_HELP = f"""\
/set NAME VALUE  change an option of sampling (/set alone shows them)
/system TEXT     say what the model is to be (/system alone shows it)
/regen           answer the last message once more
/undo            take the last message and its answer back
/clear           forget the conversation
/save FILE       write the conversation
/load FILE       go on with one that was saved
/model NAME      go on with another model
/stats           how fast the last answer was, and what is left of the context
/exit            end (as Ctrl-D does)
/help            this
{FENCE}              begins and ends a message of several lines; what is pasted is one message
//               begins a message that begins with a slash
Ctrl-C           stop the answer"""


def chat(args: Namespace, options: SamplingOptions) -> int:
    """Open the model of `args` and talk until the user ends it; return the exit code."""
    with _OpenEngine(args) as opened:
        if args.system is not None and is_base(opened.engine):
            raise RequestError(
                f"{opened.engine.source.name} is a base model: it has no chat template and takes "
                "no --system; it goes on with a text."
            )
        return Chat(
            opened.engine,
            options,
            system=args.system,
            raw=args.raw,
            is_base=is_base(opened.engine),
            history=None if args.no_history else history_file(os.environ),
            reopen=opened.switch if args.plan is None else None,
        ).loop()


class _OpenEngine:
    """The engine of a chat, which may go on with another model."""

    def __init__(self, args: Namespace) -> None:
        """Open the model of `args`; raises as `open_engine`."""
        self._args = args
        self.engine = open_engine(args)

    def switch(self, model: str) -> "tuple[Engine, TonnageError | None]":
        """Close the engine and open `model` by the same options.

        Returns it, or the old one and why the other is not open. What is not found, or cannot be
        fetched, closes nothing.
        """
        catalogs = open_catalogs(self._args.catalog, os.environ)
        try:
            resolve(
                model, catalogs=catalogs, offline=self._args.offline,
                progress=PullProgress(sys.stderr),
            )  # fmt: skip
        except TonnageError as error:
            return self.engine, error
        self.engine.close()
        before, self._args.model = self._args.model, model
        problem: TonnageError | None = None
        try:
            self.engine = open_engine(self._args)
        except TonnageError as error:
            self._args.model, problem = before, error
            self.engine = open_engine(self._args)
        return self.engine, problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.engine.close()


class Chat:
    """Lines in, completions out; the conversation so far goes into every prompt.

    The engine keeps the part of a prompt that it has computed, so a turn costs its new words only.
    With `raw`, and where the model `is_base`, there are no roles: each line continues the text.
    reopen: closes the engine, and returns that of another model, or the old one opened again and
    the reason.
    """

    def __init__(
        self,
        engine: "Engine",
        options: SamplingOptions,
        *,
        system: str | None,
        raw: bool,
        is_base: bool = False,
        history: Path | None = None,
        reopen: "Callable[[str], tuple[Engine, TonnageError | None]] | None" = None,
    ) -> None:
        """Talk through `engine`, beginning with the `system` message if there is one."""
        self._engine = engine
        self._options = options
        self._raw = raw
        self._is_base = is_base
        self._history = history
        self._reopen = reopen
        self._said = Conversation(system, goes_on=raw or is_base)
        self._last: Generation | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "/clear": self._clear,
            "/help": lambda words: print(_HELP),
            "/load": self._load,
            "/model": self._model,
            "/regen": self._regenerate,
            "/save": self._save,
            "/set": self._set,
            "/stats": self._stats,
            "/system": self._system,
            "/undo": self._undo,
        }
        self._commands["/?"] = self._commands["/help"]

    def loop(self) -> int:
        """Read and answer until Ctrl-D or /exit; return the exit code."""
        lines = Lines(self._history)
        self._greet()
        while True:
            try:
                line = lines.read()
                if line.strip() and not self._line(line):
                    return 0
            except KeyboardInterrupt:
                print("\n(Ctrl-D or /exit ends)")
            except EOFError:
                print()
                return 0

    def _greet(self) -> None:
        plan, runtime = self._engine.plan, self._engine.runtime
        print(
            f"{self._engine.source.name}: {plan.context_tokens:,} tokens of context, "
            f"{plan.threads} threads, {runtime.kernels}. /help for help, Ctrl-D to end.",
            file=sys.stderr,
        )
        if self._is_base:
            print(
                "This is a base model: it goes on with the text that you begin, and answers no "
                "questions.",
                file=sys.stderr,
            )

    def _line(self, line: str) -> bool:
        """Do what a line asks for; return whether the chat goes on."""
        try:
            name = _command_in(line)
            if name in ("/exit", "/quit", "/bye"):
                return False
            if name is None:
                self.turn(line[1:] if line.startswith("//") else line)
            elif name in self._commands:
                self._commands[name](line.strip()[len(name) :].strip())
            else:
                known = [*self._commands, "/exit"]
                print(
                    f"There is no {name[:60]}{did_you_mean(name, known)} /help shows them; a "
                    "message that begins with a slash begins with two."
                )
        except TonnageError as error:
            print(f"tonnage: {error}", file=sys.stderr)
            if isinstance(error, ContextLengthError) and len(self._said):
                print("(/clear forgets the conversation)", file=sys.stderr)
        except OSError as error:
            subject = f"{error.filename}: " if error.filename else ""
            print(f"tonnage: {subject}{error.strerror or error}.", file=sys.stderr)
        return True

    def turn(self, line: str) -> None:
        """Answer `line` and remember both; Ctrl-C ends the completion, and what came of it counts.

        Raises TonnageError; then the conversation stands where it was.
        """
        made = self._engine.generate(self._said.prompt(line), self._options, raw=self._raw)
        out = WrappedOutput(sys.stdout)
        try:
            for delta in made:
                out.write(delta)
        except KeyboardInterrupt:
            out.write(" (stopped)")
        out.end()
        print(flush=True)
        self._said.add(line, made.text)
        self._last = made
        if made.finish_reason == "length" and self._options.max_tokens != len(made.tokens):
            print("(the context is full: /clear forgets the conversation)", file=sys.stderr)

    def _clear(self, words: str) -> None:
        self._said.clear()
        print("(forgotten)")

    def _undo(self, words: str) -> None:
        turn = self._said.undo()
        print("(nothing was said yet)" if turn is None else f"(taken back: {turn[0][:60]!r})")

    def _regenerate(self, words: str) -> None:
        turn = self._said.undo()
        if turn is None:
            print("(nothing was said yet)")
            return
        try:
            self.turn(turn[0])
        except TonnageError:
            self._said.add(*turn)
            raise

    def _set(self, words: str) -> None:
        from tonnage.cli.chat.settings import set_option, shown_options

        if words:
            self._options = set_option(self._options, words)
        print("\n".join(shown_options(self._options)))

    def _system(self, words: str) -> None:
        if self._said.goes_on:
            raise RequestError("Without a chat template there is no place for a system message.")
        if words:
            self._said.system = words
        shown = self._said.system
        print("(no system message)" if shown is None else f"(system: {shown})")

    def _save(self, words: str) -> None:
        path = _file_in("/save", words)
        self._said.save(path)
        print(f"({len(self._said)} turns in {path})")

    def _load(self, words: str) -> None:
        path = _file_in("/load", words)
        self._said.load(path)
        print(f"({len(self._said)} turns from {path})")

    def _model(self, words: str) -> None:
        if not words:
            print(f"({self._engine.source.name})")
            return
        if self._reopen is None:
            raise RequestError("This chat goes by a plan file, which is for its model alone.")
        self._engine, problem = self._reopen(words)
        self._last = None
        if problem is not None:
            raise problem
        self._is_base = is_base(self._engine)
        self._said.goes_on = self._raw or self._is_base
        self._greet()

    def _stats(self, words: str) -> None:
        made, plan = self._last, self._engine.plan
        if made is None:
            print("(nothing was answered yet)")
            return
        used = len(made.prompt) + len(made.tokens)
        print(
            f"prompt   {len(made.prompt):,} tokens, {made.num_cached_tokens:,} of them known before"
            f"\nanswer   {len(made.tokens):,} tokens, {made.decode_tokens_per_s:.1f} a second, the "
            f"first after {made.time_to_first_token_ns / 1e6:,.0f} ms"
            f"\ncontext  {used:,} of {plan.context_tokens:,} tokens used"
        )


def _command_in(line: str) -> str | None:
    """Return the command that a message is: its first word, a slash and no other in it.

    So a path or two slashes begin a message like any other.
    """
    words = line.split(maxsplit=1)
    name = words[0]
    is_command = name.startswith("/") and "/" not in name[1:] and len(name) > 1
    return name if is_command and "\n" not in line else None


def _file_in(command: str, words: str) -> Path:
    """Return the file that a command names. Raises RequestError when it names none."""
    if not words:
        raise RequestError(f"{command} needs the name of a file.")
    return Path(words).expanduser()
