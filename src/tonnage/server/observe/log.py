"""The operator's log: records of `logging`, on stderr as text or as JSON, a line each."""

import json
import logging
import re
import select
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from traceback import walk_tb
from typing import Literal, TextIO

Field = str | int | float
Format = Literal["text", "json"]
_MOST_ERRORS = 8  # of a chain of errors
_MOST_FRAMES = 32  # of one error, the innermost ones
_PLAIN = re.compile(r"[^\s\"=]+")
_LOGGER = logging.getLogger("tonnage.server")


@dataclass(slots=True)
class RequestContext:
    """The request that lines are about. tenant: empty where no key is asked for."""

    request_id: str
    tenant: str = ""


REQUEST: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def configure(level: str, form: Format) -> None:
    """Write the records of this package on stderr from now on; level: the lowest of LOG_LEVELS."""
    logger = logging.getLogger("tonnage")
    logger.handlers = [_StderrHandler(form)]
    logger.setLevel(level.upper())
    logger.propagate = False


def log(level: int, message: str, *, traceback: str = "", **fields: Field) -> None:
    """Log a line: `level` of `logging`, a message, and numbers as fields.

    traceback: what `frames_of` returned. The request that is being answered is added.
    """
    more = {"fields": {**_request_fields(), **fields}, "traceback": traceback}
    _LOGGER.log(level, message, extra=more)


def frames_of(error: BaseException) -> str:
    """Return where `error`, and what led to it, was raised: a line per frame, causes last.

    The words of errors are left out: they can be those of a prompt.
    """
    lines: list[str] = []
    one: BaseException | None = error
    for _ in range(_MOST_ERRORS):
        if one is None:
            break
        frames = [(frame.f_code, line) for frame, line in walk_tb(one.__traceback__)]
        lines.append(type(one).__name__)
        lines += [
            f'  File "{code.co_filename}", line {line}, in {code.co_qualname}'
            for code, line in frames[-_MOST_FRAMES:]
        ]
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
    return "\n".join(lines)


def _request_fields() -> dict[str, Field]:
    context = REQUEST.get()
    if context is None:
        return {}
    tenant: dict[str, Field] = {"tenant": context.tenant} if context.tenant else {}
    return {"request_id": context.request_id, **tenant}


class _StderrHandler(logging.Handler):
    """Writes to whatever stderr is; its reader may have ended, and no request fails then.

    A pipe that nobody reads is full after 64 KiB. Lines are dropped then and counted, since a write
    would stop the server.
    """

    def __init__(self, form: Format) -> None:
        super().__init__()
        self._line = _as_json if form == "json" else _as_text
        self._num_dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not _takes_more(sys.stderr):
            self._num_dropped += 1
            return
        with suppress(OSError):
            if self._num_dropped:
                dropped = f"{self._num_dropped} lines were dropped: nobody read them."
                print(self._line(_warning(dropped)), file=sys.stderr)
                self._num_dropped = 0
            print(self._line(record), file=sys.stderr, flush=True)


def _warning(message: str) -> logging.LogRecord:
    return _LOGGER.makeRecord(_LOGGER.name, logging.WARNING, "", 0, message, (), None)


def _takes_more(stream: TextIO) -> bool:
    """Return whether a page can be written without waiting (poll(2)); True where unknown."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError):
        return True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return bool(poll.poll(0))


def _as_text(record: logging.LogRecord) -> str:
    fields: Mapping[str, Field] = getattr(record, "fields", {})
    pairs = [f"{name}={_quoted(value)}" for name, value in fields.items()]
    line = " ".join([_time(record), record.levelname, _one_line(record.getMessage()), *pairs])
    traceback: str = getattr(record, "traceback", "")
    return "\n".join([line, *(f"  {_printable(frame)}" for frame in traceback.splitlines())])


def _as_json(record: logging.LogRecord) -> str:
    fields: Mapping[str, Field] = getattr(record, "fields", {})
    traceback: str = getattr(record, "traceback", "")
    head = {"time": _time(record), "level": record.levelname.lower()}
    tail = {"traceback": traceback} if traceback else {}
    line = {**head, "message": _one_line(record.getMessage()), **fields, **tail}
    return json.dumps(line, ensure_ascii=False)


def _time(record: logging.LogRecord) -> str:
    """Return when a record was made, in UTC as RFC 3339 writes it, to the millisecond."""
    second = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{second}.{int(record.msecs):03}Z"


def _quoted(value: Field) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else _printable(str(value))
    return text if _PLAIN.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def _one_line(message: str) -> str:
    return _printable(" ".join(message.split()))


def _printable(text: str) -> str:
    """Return `text` without what moves a terminal's cursor: it can be a hostile file's words."""
    return "".join(filter(str.isprintable, text))
