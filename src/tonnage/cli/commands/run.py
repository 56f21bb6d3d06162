"""`tonnage run`: one completion, or a chat."""

import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tonnage.cli.opening import OpenEngine, is_base, stated
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
    with OpenEngine(args) as opened:
        load_ns = time.perf_counter_ns() - begin
        engine = opened.engine
        _check_system(engine, args.system)
        if prompt is None:
            return _chat(args, opened, options)
        _tell_base(args, engine)
        made = engine.generate(
            _messages(args.system, prompt), options, raw=args.raw, on_slowdown=report_slowdown
        )
        if args.json:
            made.complete()
            _print_json(result(engine, made, load_ns), engine if args.ledger else None)
        else:
            stream_out(made)
            if args.ledger:
                print("\n" + _after(engine, made))
    return 0


def _chat(args: Namespace, opened: OpenEngine, options: SamplingOptions) -> int:
    from tonnage.cli.chat.lines import history_file
    from tonnage.cli.commands.chat import Chat

    return Chat(
        opened.engine,
        options,
        system=args.system,
        raw=args.raw,
        is_base=is_base(opened.engine),
        history=None if args.no_history else history_file(os.environ),
        reopen=opened.switch if args.plan is None else None,
    ).loop()


def _check_system(engine: "Engine", system: str | None) -> None:
    if system is not None and is_base(engine):
        raise RequestError(
            f"{engine.source.name} is a base model: it has no chat template, so it takes no "
            "--system; leave it out, and the model goes on with the text that it is given."
        )


def _tell_base(args: Namespace, engine: "Engine") -> None:
    """Say once to a person what a base model does with a prompt."""
    if is_base(engine) and not (args.raw or args.json) and sys.stderr.isatty():
        print(
            f"tonnage: {engine.source.name} is a base model: it goes on with the text, and answers "
            "no questions.",
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


def _after(engine: "Engine", made: "Generation") -> str:
    """Return the ledger, the share of the bandwidth, and forecast beside fact."""
    from tonnage.cli.render.forecast_lines import render_comparison
    from tonnage.cli.render.plan_table import render_ledger

    lines = [render_ledger(engine.ledger()), ""]
    speed = made.decode_tokens_per_s
    share = engine.expectation.bandwidth_share(speed, _middle(made))
    if share is not None and speed:
        lines.append(f"{'bandwidth share':26} {share:11.0%}  bytes touched per token over the best")
    expected = engine.expectation.forecast(_computed(made), _middle(made))
    lines.append(render_comparison(expected, made.time_to_first_token_ns, speed))
    return "\n".join(lines)


def _computed(made: "Generation") -> int:
    return len(made.prompt) - made.num_cached_tokens


def _middle(made: "Generation") -> int:
    return len(made.prompt) + len(made.tokens) // 2


def sampling_options(args: Namespace) -> SamplingOptions:
    """Return what `args` say about sampling. Raises RequestError for values out of range."""
    given = stated(SamplingOptions, args)
    return SamplingOptions(**{**given, "stop": tuple(given.get("stop", ()))})


def stream_out(made: "Generation") -> None:
    """Print the completion as it comes, and end its line."""
    from tonnage.cli.render.wrapped import WrappedOutput

    out = WrappedOutput(sys.stdout)
    for delta in made:
        out.write(delta)
    out.end()
    print(flush=True)


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


def _print_json(values: dict[str, Any], measured: "Engine | None") -> None:
    import json

    ledger = {} if measured is None else measured.ledger().to_dict()
    print(json.dumps({**values, **ledger}))


def result(engine: "Engine", made: "Generation", load_ns: int) -> dict[str, Any]:
    """Return the object of `--json`.

    tokens: ids that were generated. finish_reason: stop or length. peak_rss_bytes: of this process
    from its start. logprobs (when asked for): one entry per token, natural logarithms.
    """
    from tonnage.cli.render.forecast_lines import forecast_values, slowdown_values
    from tonnage.machine.memory_use import peak_rss_bytes

    values: dict[str, Any] = {
        "model": engine.source.name,
        "text": made.text,
        "tokens": made.tokens,
        "num_prompt_tokens": len(made.prompt),
        "num_cached_tokens": made.num_cached_tokens,
        "num_generated_tokens": len(made.tokens),
        "finish_reason": made.finish_reason,
        "seed": made.seed,
        "isa": engine.runtime.kernels,
        "threads": engine.plan.threads,
        "load_ns": load_ns,
        "time_to_first_token_ns": made.time_to_first_token_ns,
        "decode_tokens_per_s": made.decode_tokens_per_s,
        "peak_rss_bytes": peak_rss_bytes(),
        "bandwidth_share": engine.expectation.bandwidth_share(
            made.decode_tokens_per_s, _middle(made)
        ),
        "forecast": forecast_values(engine.expectation.forecast(_computed(made), _middle(made))),
        "slowdown": slowdown_values(engine.expectation.slowdowns),
    }
    if made.options.logprobs is not None:
        values["logprobs"] = [
            {"token": one.token_id, "logprob": one.logprob, "top": [list(pair) for pair in one.top]}
            for one in made.logprobs
        ]
    return values
