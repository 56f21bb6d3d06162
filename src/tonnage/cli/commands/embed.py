"""`tonnage embed`: the vectors of texts, or of the lines of stdin."""

import json
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING

from tonnage.cli.opening import open_engine
from tonnage.core.errors import ContextLengthError, RequestError
from tonnage.core.pooling import POOLINGS

if TYPE_CHECKING:
    from tonnage.engine.embedding import Embedding

_TEXTS_AT_ONCE = 256  # of stdin, so that it may be longer than memory


def embed(args: Namespace) -> int:
    """Print a vector for each text of `args`, in their order; return the exit code."""
    from tonnage.engine.build import ServingOptions

    pooling = next((known for known in POOLINGS if known == args.pooling), None)
    if args.pooling is not None and pooling is None:
        raise RequestError(f"--pooling is {args.pooling!r}; it is one of {', '.join(POOLINGS)}.")
    with open_engine(args, ServingOptions(share_pages=True)) as engine:
        for first, texts in _groups(args.texts):
            try:
                found = engine.embed(texts, pooling=pooling, dimensions=args.dimensions)
            except (ContextLengthError, RequestError) as error:
                if not first:
                    raise
                raise type(error)(f"Counted from line {first:,} on: {error}") from None
            for index, one in enumerate(found, start=first):
                print(_object(index, one) if args.json else _numbers(one))
    return 0


def _groups(texts: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield some texts at a time, with the number of the first: those given, or stdin's lines."""
    if texts:
        yield 0, list(texts)
        return
    lines = map(_line, enumerate(() if sys.stdin is None else sys.stdin.buffer))
    first = 0
    while group := list(islice(lines, _TEXTS_AT_ONCE)):
        yield first, group
        first += len(group)
    if not first:
        raise RequestError("There is nothing to embed; give texts, or one a line on stdin.")


def _line(numbered: tuple[int, bytes]) -> str:
    index, line = numbered
    try:
        return line.rstrip(b"\r\n").decode("utf-8")
    except UnicodeDecodeError:
        raise RequestError(f"Line {index:,} of stdin is not UTF-8; convert it.") from None


def _numbers(one: "Embedding") -> str:
    """Return the elements, each with the digits that identify a float32."""
    return " ".join(f"{value:.9g}" for value in one.vector)


def _object(index: int, one: "Embedding") -> str:
    vector = [float(f"{value:.9g}") for value in one.vector]
    return json.dumps({"index": index, "num_tokens": one.num_tokens, "embedding": vector})
