"""A conversation on a terminal."""

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from tonnage.cli.render.terminal import printable
from tonnage.core.errors import TonnageError
from tonnage.core.sampling import SamplingOptions

if TYPE_CHECKING:
    from tonnage.engine.engine import Engine

_HELP = """\
/clear   forget the conversation
/exit    end (as Ctrl-D does)
/help    this
Ctrl-C   stop the answer"""


class Chat:
    """Lines in, completions out; the conversation so far goes into every prompt.

    The engine keeps the part of a prompt that it has computed, so a turn costs its new words only.
    With `raw` there are no roles: each line continues the text.
    """

    def __init__(
        self, engine: "Engine", options: SamplingOptions, *, system: str | None, raw: bool
    ) -> None:
        """Talk through `engine`, beginning with the `system` message if there is one."""
        self._engine = engine
        self._options = options
        self._raw = raw
        self._opening = [] if system is None else [{"role": "system", "content": system}]
        self._messages = list(self._opening)
        self._text = ""

    def loop(self) -> int:
        """Read and answer until Ctrl-D or /exit; return the exit code."""
        # Importing it gives input() line editing and a history; some Pythons have none.
        with suppress(ImportError):
            import readline  # noqa: F401

        plan, runtime = self._engine.plan, self._engine.runtime
        print(
            f"{self._engine.source.name}: {plan.context_tokens:,} tokens of context, "
            f"{plan.threads} threads, {runtime.kernels}. /help for help, Ctrl-D to end.",
            file=sys.stderr,
        )
        while True:
            try:
                line = input("> ")
                if line.strip() and not self._line(line):
                    return 0
            except KeyboardInterrupt:
                print("\n(Ctrl-D or /exit ends)")
            except EOFError:
                print()
                return 0

    def _line(self, line: str) -> bool:
        """Do what a line asks for; return whether the chat goes on."""
        words = line.split()
        if len(words) > 1 or not words[0].startswith("/"):
            self._guarded_turn(line)
        elif words[0] in ("/exit", "/quit", "/bye"):
            return False
        elif words[0] == "/clear":
            self._messages = list(self._opening)
            self._text = ""
            print("(forgotten)")
        elif words[0] in ("/help", "/?"):
            print(_HELP)
        else:
            print(f"There is no {words[0]}.\n{_HELP}")
        return True

    def _guarded_turn(self, line: str) -> None:
        try:
            self.turn(line)
        except TonnageError as error:
            print(f"tonnage: {error}", file=sys.stderr)
            print("(/clear forgets the conversation)", file=sys.stderr)

    def turn(self, line: str) -> None:
        """Answer `line` and remember both; Ctrl-C ends the completion, and what came of it counts.

        Raises TonnageError; then the conversation stands where it was.
        """
        messages = [*self._messages, {"role": "user", "content": line}]
        text = self._text + line
        made = self._engine.generate(text if self._raw else messages, self._options, raw=self._raw)
        try:
            for delta in made:
                sys.stdout.write(printable(delta, sys.stdout))
                sys.stdout.flush()
        except KeyboardInterrupt:
            sys.stdout.write(" (stopped)")
        print(flush=True)
        self._messages = [*messages, {"role": "assistant", "content": made.text}]
        self._text = text + made.text
        if made.finish_reason == "length" and self._options.max_tokens != len(made.tokens):
            print("(the context is full: /clear forgets the conversation)", file=sys.stderr)
