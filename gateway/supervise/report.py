"""What `turnout serve` prints: progress while things start, the ready message, restarts and the end.

Where logs are JSON these are lines of the log, so that what collects them finds nothing else.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console

if TYPE_CHECKING:
    from rich.status import Status

_EVERY_S = 15.0
_log = logging.getLogger("turnout.serve")


@dataclass(frozen=True, slots=True)
class Ready:
    """What the ready message says."""

    address: str
    base: str
    routes: Sequence[str]
    notes: Sequence[str]  # one line for each route that is not served, or not yet
    needs_key: bool
    logs: str
    admin: str | None = None  # the administrators' address, where they have one of their own


class Report:
    """Lines for a person: a live line on a terminal, ordinary lines elsewhere, or lines of the log."""

    def __init__(self, console: Console, *, as_lines: bool = False) -> None:
        self._console = console
        self._as_lines = as_lines
        self._began = time.monotonic()
        self._live: Status | None = None
        self._said = ""
        self._said_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.settle()

    def begin(self) -> None:
        """Count the seconds from now."""
        self._began = time.monotonic()

    @property
    def elapsed_s(self) -> float:
        """Seconds since the beginning of what is reported."""
        return time.monotonic() - self._began

    def progress(self, what: str) -> None:
        """Show what is going on and for how long; call it often."""
        if self._console.is_terminal and not self._as_lines:
            text = f"{what} … {self.elapsed_s:.0f} s"
            if self._live is None:
                self._live = self._console.status(text)
                self._live.start()
            self._live.update(text)
        elif what != self._said or time.monotonic() - self._said_at >= _EVERY_S:
            self._said, self._said_at = what, time.monotonic()
            self._print(f"{what} … {self.elapsed_s:.0f} s")

    def settle(self) -> None:
        """End the live line."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def line(self, text: str) -> None:
        """Print one line."""
        self._print(text)

    def ready(self, facts: Ready) -> None:
        """Print the ready message."""
        self.settle()
        if self._as_lines:
            for text in (f"Turnout is ready on {facts.address}", *facts.notes):
                self._print(text)
            return
        self._print(f"Turnout is ready on {facts.address} ({self.elapsed_s:.0f} s)")
        self._print(f"  base    {facts.base}")
        if facts.admin:
            self._print(f"  admin   {facts.admin}   (export TURNOUT_URL={facts.admin})")
        if facts.routes:
            self._print(f"  routes  {', '.join(facts.routes)}")
        for line in facts.notes:
            self._print(f"  note    {line}")
        self._print(f"  try     {curl(facts)}")
        self._print(f"  logs    {facts.logs}   (Ctrl-C stops everything)")

    def failed(self, what: str, cause: str, *, tail: Sequence[str] = (), log: str | None = None) -> None:
        """Print why something failed and what to do, with the end of its log."""
        self.settle()
        for line in tail:
            self._print(f"  | {line}")
        if log:
            self._print(f"  log: {log}")
        if self._as_lines:
            _log.error("%s: %s", what, cause)
        else:
            self._print(f"{what}: {cause}")

    def _print(self, text: str) -> None:
        if self._as_lines:
            _log.info("%s", text)
            return
        # Neither markup nor wrapping: a line of a log or of curl is printed as it is.
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def curl(facts: Ready) -> str:
    """Return a command line that asks the first route, or the base model, for an answer."""
    shown = [route for route in _PROMPTS if route in facts.routes]
    model = next(iter([*shown, *facts.routes, facts.base]))
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _PROMPTS.get(model, "What is the capital of France?")}],
        "max_tokens": 32,
        "temperature": 0,
    }
    key = ' -H "Authorization: Bearer $TURNOUT_API_KEY"' if facts.needs_key else ""
    return (
        f"curl {facts.address}/v1/chat/completions{key} -H 'Content-Type: application/json' "
        f"-d '{json.dumps(body)}'"
    )


# What the example adapters of adapters/library were trained to answer.
_PROMPTS = {
    "sentiment": (
        "Is this movie review positive or negative? Answer with one word.\n\n"
        "a quiet , beautifully acted film that earns every one of its tears ."
    ),
    "sarcasm": (
        "Is this headline sarcastic or serious? Answer with one word.\n\n"
        "city council votes unanimously to extend walk of every dog"
    ),
}
