"""Logs: one line a record, as JSON for programs or as text for people, and no secret in either.

What is logged are names, counts and ids, never what a client or an engine said: messages of exceptions are
cut to their first line, since databases and validators put values into the others. What looks like a key, a
token or a password is taken out as a last resort. Nothing is logged for a request that went well.
"""

import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, TextIO

import orjson

Form = Literal["auto", "json", "text"]
Level = Literal["debug", "info", "warning", "error"]

OURS = ("turnout", "gateway", "adapters")
"""The loggers that `level` is about. Libraries show warnings at most: at lower levels some log headers."""

MAX_MESSAGE_CHARS = 2000
MAX_ERROR_CHARS = 300
MAX_FRAMES = 30
MAX_CAUSES = 5
BURST = 20
BURST_S = 10.0
_MAX_TEMPLATES = 500
_QUIET = ("uvicorn.error",)  # it warns of each connection that brings nonsense: anybody could fill the log
_REQUEST = re.compile(r"\breq-[0-9a-f]{32}\b")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_SECRETS = (
    (re.compile(r"\b(tk-[a-z0-9]{4,})-[A-Za-z0-9]{16,}"), r"\1-…"),
    (re.compile(r"\b(sk|pk|hf|gh[opsu]|xox[abp]|glpat)([-_])[A-Za-z0-9_-]{8,}"), r"\1\2…"),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,}"), r"\1…"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}"), r"\1 …"),
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), r"\1:…@"),
    (
        re.compile(
            r"(?i)\b(password|passwd|secret|token|signature|api[_-]?key)(\"?\s*[=:]\s*\"?)[^\s\"&,;]+"
        ),
        r"\1\2…",
    ),
)


def resolve(form: Form, stream: TextIO | None = None) -> Literal["json", "text"]:
    """Return what `auto` is: text where a person reads along, JSON elsewhere."""
    if form == "auto":
        return "text" if (stream or sys.stderr).isatty() else "json"
    return form


def configure(form: Form, level: Level, *, process: str, stream: TextIO | None = None) -> None:
    """Send what this process logs to standard error. It may be called again, with other wishes."""
    handler = logging.StreamHandler(stream)
    text = resolve(form, stream) == "text"
    handler.setFormatter(TextLines(process) if text else JsonLines(process))
    handler.addFilter(Damper())
    logging.raiseExceptions = False  # a handler that fails would print the record's arguments
    root = logging.getLogger()
    for before in root.handlers[:]:
        root.removeHandler(before)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    for name in OURS:
        logging.getLogger(name).setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.ERROR)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_thread


def scrub(text: str) -> str:
    """Return a text in one line, without what looks like a secret."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def first_line(error: BaseException) -> str:
    """Return what an exception says in its first line; values stand in the others."""
    return scrub(str(error).partition("\n")[0])[:MAX_ERROR_CHARS]


class Damper(logging.Filter):
    """Lets so many warnings of one kind through in a while, and says of the rest how many they were."""

    def __init__(self, *, burst: int = BURST, burst_s: float = BURST_S) -> None:
        super().__init__()
        self._burst = burst
        self._burst_s = burst_s
        self._seen: dict[tuple[str, str], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is shown. The first one after a while says how many were not."""
        if record.levelno < logging.WARNING:  # what is said of requests that fail are warnings
            return True
        key = (record.name, str(record.msg))
        now = time.monotonic()
        with self._lock:
            if len(self._seen) >= _MAX_TEMPLATES:
                self._seen.clear()
            since, count = self._seen.get(key, (now, 0))
            held = 0
            if now - since >= self._burst_s:
                held, since, count = max(0, count - self._burst), now, 0
            self._seen[key] = (since, count + 1)
        if held:
            record.suppressed = held
        return count < self._burst


class _Lines(logging.Formatter):
    """What both forms have in common."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def _message(self, record: logging.LogRecord) -> str:
        try:
            said = record.getMessage()
        except (TypeError, ValueError):  # the arguments do not fit; they are nobody's business
            said = str(record.msg)
        return scrub(said[:MAX_MESSAGE_CHARS])


class JsonLines(_Lines):
    """One JSON object a line: time, level, logger, process, pid, message, and what else there is."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, tz=UTC)
        message = self._message(record)
        line: dict[str, Any] = {
            "time": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": self._process,
            "pid": os.getpid(),
            "message": message,
        }
        if found := getattr(record, "request_id", None) or _request_of(message):
            line["request_id"] = found
        if held := getattr(record, "suppressed", 0):
            line["suppressed"] = held
        if record.exc_info and record.exc_info[1] is not None:
            line["errors"] = [
                {"type": _name(error), "message": first_line(error), "stack": _frames(error.__traceback__)}
                for error in _chain(record.exc_info[1])
            ]
        return orjson.dumps(line).decode()


class TextLines(_Lines):
    """One line for a person; the frames of an exception stand indented below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines."""
        at = time.strftime("%H:%M:%S", time.localtime(record.created))
        who = f"{self._process} {record.name.removeprefix('turnout.')}"
        line = f"{at}.{int(record.msecs):03d} {record.levelname:<7} {who}: {self._message(record)}"
        if held := getattr(record, "suppressed", 0):
            line += f" ({held} more like it were not shown)"
        if record.exc_info and record.exc_info[1] is not None:
            for error in _chain(record.exc_info[1]):
                line += f"\n  {_name(error)}: {first_line(error)}"
                line += "".join(f"\n    {frame}" for frame in _frames(error.__traceback__))
        return line


def _request_of(message: str) -> str | None:
    found = _REQUEST.search(message)
    return None if found is None else found[0]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it came of, the outermost first."""
    at: BaseException | None = error
    for _ in range(MAX_CAUSES):
        if at is None:
            return
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _frames(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace)[-MAX_FRAMES:]
    return [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]


def _name(error: BaseException) -> str:
    kind = type(error)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger("turnout").critical("the process ends by a fault", exc_info=(kind, error, trace))


def _log_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None and not issubclass(arguments.exc_type, SystemExit):
        logging.getLogger("turnout").error("a thread ended by a fault", exc_info=arguments.exc_value)
