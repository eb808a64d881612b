"""Lines of logs: their two forms, what never stands in them, and that nobody can fill them."""

import io
import json
import logging
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway import logs

_KEY = "tk-abcdef12-" + "Zz9" * 12
_REQUEST = "req-" + "0a" * 16


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Leave logging as it was."""
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    levels = {name: logging.getLogger(name).level for name in (*logs.OURS, "uvicorn.error")}
    raising = logging.raiseExceptions
    yield
    root.handlers[:], sys.excepthook, threading.excepthook = handlers, *hooks
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)
    logging.raiseExceptions = raising
    logging.captureWarnings(capture=False)


def logging_to(form: logs.Form = "json", level: logs.Level = "info") -> io.StringIO:
    """Log into a text."""
    stream = io.StringIO()
    logs.configure(form, level, process="gateway", stream=stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """What was logged as JSON."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_for_programs() -> None:
    """One JSON object a line says when, how grave, who, and what; a request's id has a field of its own."""
    stream = logging_to()
    logging.getLogger("turnout.proxy").warning("replica %s, request %s: lost", "r0", _REQUEST)
    (line,) = lines(stream)
    assert line.pop("time").endswith("Z")
    assert line.pop("pid") > 0
    assert line == {
        "level": "warning",
        "logger": "turnout.proxy",
        "process": "gateway",
        "message": f"replica r0, request {_REQUEST}: lost",
        "request_id": _REQUEST,
    }


def test_a_line_for_people() -> None:
    """As text it is one line with the same words."""
    stream = logging_to("text")
    logging.getLogger("turnout.table").error("the store is %s", "away")
    (line,) = stream.getvalue().splitlines()
    assert line.endswith("ERROR   gateway table: the store is away")


@pytest.mark.parametrize(("tty", "form"), [(True, "text"), (False, "json")])
def test_what_auto_is(tty: bool, form: str) -> None:
    """A terminal gets text, everything else JSON; what is asked for stays."""
    stream = io.StringIO()
    stream.isatty = lambda: tty  # type: ignore[method-assign]
    assert logs.resolve("auto", stream) == form
    assert (logs.resolve("json", stream), logs.resolve("text", stream)) == ("json", "text")


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (f"key {_KEY}!", "key tk-abcdef12-…!"),
        ("Authorization: Bearer abc.def-ghi", "Authorization: Bearer …"),
        ("postgresql+psycopg://me:sword@db/x", "postgresql+psycopg://me:…@db/x"),
        ("hf_abcdefghijkl and sk-abcdefghijkl", "hf_… and sk-…"),
        ('{"password": "swordfish"}', '{"password": "…"}'),
        ("AKIAABCDEFGHIJKLMNOP", "AKIA…"),
        ("3 prompt_tokens: 4, tokens: 5", "3 prompt_tokens: 4, tokens: 5"),
        ("one\ntwo\x1b[31m", "one\\x0atwo\\x1b[31m"),
    ],
)
def test_what_never_stands_in_a_line(said: str, shown: str) -> None:
    """Keys, tokens and passwords are taken out, and no text makes a second line or moves a terminal."""
    assert logs.scrub(said) == shown


def _fail() -> None:
    raise RuntimeError("not stored") from ValueError("1 value\nDETAIL: (the prompt)")


@pytest.mark.parametrize("form", ["json", "text"])
def test_an_exception_says_its_first_line(form: logs.Form) -> None:
    """Types, first lines and frames of an exception and its causes are there; what follows them is not."""
    stream = logging_to(form)
    try:
        _fail()
    except RuntimeError:
        logging.getLogger("turnout.app").exception("failed")
    text = stream.getvalue()
    assert "the prompt" not in text
    for part in ("RuntimeError", "not stored", "ValueError", "1 value", "_fail"):
        assert part in text
    if form == "json":
        assert [error["type"] for error in lines(stream)[0]["errors"]] == ["RuntimeError", "ValueError"]


def test_levels_are_about_us() -> None:
    """Debug shows our own lines; libraries log headers at that level and stay at warnings."""
    stream = logging_to(level="debug")
    for name in ("turnout.proxy", "gateway.controller.loop", "httpcore.http11", "botocore"):
        logging.getLogger(name).debug("x")
        logging.getLogger(name).info("x")
    assert {line["logger"] for line in lines(stream)} == {"turnout.proxy", "gateway.controller.loop"}


def test_arguments_that_do_not_fit_are_not_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """A call with wrong arguments logs its text without them."""
    stream = logging_to()
    logging.getLogger("turnout.app").warning("%d rows", "a prompt")
    assert [line["message"] for line in lines(stream)] == ["%d rows"]
    assert capsys.readouterr().err == ""


def test_nobody_fills_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many lines of one kind some are shown, and the first one later says how many were not."""
    now = [0.0]
    stream = logging_to()
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    log = logging.getLogger("turnout.proxy")
    for number in range(100):
        log.warning("replica %s is away", number)
    log.warning("another kind")
    assert len(lines(stream)) == logs.BURST + 1
    now[0] = 2 * logs.BURST_S
    log.warning("replica %s is away", 100)
    assert lines(stream)[-1]["suppressed"] == 100 - logs.BURST


def test_faults_that_nobody_catches() -> None:
    """They are lines like all others, also those of threads."""
    stream = logging_to()
    error = ValueError("x\nsecret")
    sys.excepthook(ValueError, error, None)
    threading.excepthook(threading.ExceptHookArgs((ValueError, error, None, None)))
    found = lines(stream)
    assert [line["level"] for line in found] == ["critical", "error"]
    assert "secret" not in stream.getvalue()
