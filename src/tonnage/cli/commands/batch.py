"""`tonnage batch`: completions of a file of requests, many at once, resumed where it stopped."""

import sys
import time
from argparse import Namespace

from tonnage.batch.run import Batch, BatchFiles
from tonnage.cli.commands.run import sampling_options
from tonnage.cli.failure import SOME_REFUSED
from tonnage.cli.opening import open_engine
from tonnage.cli.render.terminal import CountProgress


def batch(args: Namespace) -> int:
    """Complete every line of args.input into args.output; return 0, or 3 where one was refused."""
    defaults = sampling_options(args)
    with BatchFiles(args.input, args.output) as files, open_engine(args) as engine:
        work = Batch(files, engine, defaults, raw=args.raw)
        progress = CountProgress(sys.stderr, "batch", files.num_lines, work.num_kept)
        begin = time.perf_counter()
        try:
            work.run(progress.step)
        except KeyboardInterrupt:
            progress.close()
            done = work.num_kept + work.num_done
            _log(f"stopped at {done} of {files.num_lines}; run it again to go on from there")
            raise
        finally:
            progress.close()
    _log(_summary(work, time.perf_counter() - begin))
    return SOME_REFUSED if work.num_refused else 0


def _summary(work: Batch, seconds: float) -> str:
    words = [f"{work.num_done - work.num_failed} answered", f"{work.num_failed} refused"]
    if work.num_kept:
        errors = work.num_refused - work.num_failed
        words.append(f"{work.num_kept} were there already" + f", {errors} refused" * (errors > 0))
    rate = work.num_tokens / seconds if seconds else 0.0
    return f"{', '.join(words)}; {work.num_tokens:,} tokens in {seconds:.1f} s, {rate:.0f} a second"


def _log(text: str) -> None:
    print(f"batch: {text}", file=sys.stderr, flush=True)
