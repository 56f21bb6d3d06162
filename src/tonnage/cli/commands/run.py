"""`tonnage run`: one completion, or a chat."""

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from tonnage.cli.opening import is_base, open_engine, stated
from tonnage.core.errors import RequestError
from tonnage.core.sampling import SamplingOptions

if TYPE_CHECKING:
    from tonnage.core.slowdown import Slowdown
    from tonnage.engine.engine import Engine
    from tonnage.engine.generation import Generation


def run(args: Namespace) -> int:
    """Complete the prompt of `args`, or chat; return the exit code."""
    options = sampling_options(args)
    prompt = _prompt(args)
    _check(args, prompt)
    begin = time.perf_counter_ns()
    if prompt is None:
        from tonnage.cli.commands.chat import chat

        return chat(args, options)
    with open_engine(args) as engine:
        load_ns = time.perf_counter_ns() - begin
        if is_base(engine):
            _tell_base(args, engine)
        made = engine.generate(
            _messages(args.system, prompt), options, raw=args.raw, on_slowdown=report_slowdown
        )
        if args.json:
            made.complete()
            from tonnage.cli.render.answer import answer_json

            print(answer_json(engine, made, load_ns, with_ledger=args.ledger))
        else:
            stream_out(made)
            if args.ledger:
                from tonnage.cli.render.answer import ledger_lines

                print("\n" + ledger_lines(engine, made))
    return 0


def _tell_base(args: Namespace, engine: "Engine") -> None:
    """Say once to a person what a base model does with a prompt.

    Raises RequestError where it should take a system message.
    """
    about = f"{engine.source.name} is a base model"
    if args.system is not None:
        raise RequestError(
            f"{about}: it has no chat template and takes no --system; it goes on with a text."
        )
    if not (args.raw or args.json) and sys.stderr.isatty():
        print(
            f"tonnage: {about}: it goes on with the text, and answers no questions.",
            file=sys.stderr,
        )


def report_slowdown(slowdown: "Slowdown") -> None:
    """Say on stderr why this machine is slower than it was measured to be."""
    begin = "\n" if sys.stderr.isatty() else ""
    print(
        f"{begin}tonnage: This machine is slower than it was measured: {slowdown.sentence}.",
        file=sys.stderr,
        flush=True,
    )


def sampling_options(args: Namespace) -> SamplingOptions:
    """Return what `args` say about sampling. Raises RequestError for values out of range."""
    given = stated(SamplingOptions, args)
    return SamplingOptions(**{**given, "stop": tuple(given.get("stop", ()))})


def _prompt(args: Namespace) -> str | None:
    """Return the prompt, from stdin for `-` or when that is no terminal; None asks for a chat.

    With --raw it is what came, line ends at the end with it. The text of a file stands behind a
    prompt beside it.
    """
    if args.command == "chat":
        return None
    if args.file is not None:
        text = _bare(_file_text(args.file), raw=args.raw)
        return text if args.prompt is None else f"{args.prompt}\n\n{text}"
    if args.prompt not in (None, "-"):
        return str(args.prompt)
    if args.prompt is None and sys.stdin is not None and sys.stdin.isatty():
        return None
    if sys.stdin is None:
        raise RequestError("There is no prompt and no stdin to read one from; give a PROMPT.")
    text = _bare(sys.stdin.buffer.read().decode("utf-8", "replace"), raw=args.raw)
    if not text:
        raise RequestError("The prompt from stdin is empty; pipe some text in or give a PROMPT.")
    return text


def _bare(text: str, *, raw: bool) -> str:
    return text if raw else text.rstrip("\r\n")


def _file_text(path: Path) -> str:
    """Return the text of a file. Raises RequestError for an empty one and other bytes, OSError."""
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise RequestError(f"{path} is not UTF-8 (byte {error.start:,}); convert it.") from None
    if not text.strip():
        raise RequestError(f"{path} is empty; write the prompt into it, or give a PROMPT.")
    return text


def _check(args: Namespace, prompt: str | None) -> None:
    if args.raw and args.system is not None:
        raise RequestError(
            "--system needs the chat template that --raw leaves out; drop one of them."
        )
    if args.json and prompt is None:
        raise RequestError("--json answers one prompt; give a PROMPT or pipe one in.")
    if args.ledger and prompt is None:
        raise RequestError("--ledger comes after one answer; give a PROMPT or pipe one in.")
    if args.logprobs is not None and not args.json:
        raise RequestError("--logprobs prints through --json only; add it.")


def _messages(system: str | None, prompt: str) -> str | list[dict[str, str]]:
    if system is None:
        return prompt
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


def stream_out(made: "Generation") -> None:
    """Print the completion as it comes, and end its line."""
    from tonnage.cli.render.wrapped import WrappedOutput

    out = WrappedOutput(sys.stdout)
    for delta in made:
        out.write(delta)
    out.end()
    print(flush=True)
