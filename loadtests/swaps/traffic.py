"""Traffic on a route whose versions change, with every answer checked; and what it says about the changes."""

import asyncio
import time
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from loadtests.common.plain_client import Answer, Broken, PlainClient
from loadtests.common.quantiles import quantile

STALE_AFTER_S = 1.0
RECONNECT_AFTER = 10
"""Requests of one connection: workers share a socket, and a connection stays with the one that took it."""

Check = Callable[[str, str, str | None], str | None]
"""Of a version's label, the text that came and the first token's id: what is wrong with it, or None."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One request. Times are seconds since the epoch; `label` is the version that its header names."""

    start: float
    end: float
    phase: str
    label: str | None
    failed: str | None
    wrong: str | None


@dataclass
class Traffic:
    """Clients that ask the route over and over, whole answers and streams in turn."""

    url: str
    route: str
    prompt: str
    tokens: int
    check: Check
    ask_logprobs: bool
    phase: str = "starting"
    seen: list[Seen] = field(default_factory=list)
    stopped: bool = False

    async def client(self, number: int) -> None:
        """Ask until stopped."""
        connection = PlainClient(self.url)
        count = number
        while not self.stopped:
            count += 1
            if count % RECONNECT_AFTER == 0:
                connection.close()
            self.seen.append(await self._ask(connection, stream=count % 2 == 0))
        connection.close()

    async def _ask(self, connection: PlainClient, *, stream: bool) -> Seen:
        body: dict[str, Any] = {
            "model": self.route,
            "prompt": self.prompt,
            "max_tokens": self.tokens,
            "temperature": 0,
            "stream": stream,
        }
        if self.ask_logprobs and not stream:
            body.update(logprobs=1, return_tokens_as_token_ids=True)
        phase, start = self.phase, time.time()
        label = failed = wrong = None
        try:
            answer = await connection.call("POST", "/v1/completions", body)
            label = answer.headers.get("x-turnout-adapter")
            failed, wrong = self._judge(answer, label, stream=stream)
        except Broken as error:
            failed = str(error)
        return Seen(start, time.time(), phase, label, failed, wrong)

    def _judge(self, answer: Answer, label: str | None, *, stream: bool) -> tuple[str | None, str | None]:
        """Return why a request counts as failed, and why its answer is not that of the version it names."""
        if answer.status != 200:
            return f"{answer.status} {answer.body[:200].decode(errors='replace')}", None
        try:
            models, text, token = _read_stream(answer) if stream else _read_whole(answer)
        except (ValueError, KeyError, IndexError, TypeError) as error:
            return f"not a whole answer ({type(error).__name__}: {error}): {answer.body[-200:]!r}", None
        if label is None or models != {label}:
            return None, f"the header names {label}, the body {sorted(models)}"
        return None, self.check(label, text, token)


def _read_whole(answer: Answer) -> tuple[set[str], str, str | None]:
    document = answer.json()
    choice = document["choices"][0]
    tokens = (choice.get("logprobs") or {}).get("tokens")
    return {document["model"]}, choice["text"], tokens[0] if tokens else None


def _read_stream(answer: Answer) -> tuple[set[str], str, str | None]:
    events = answer.events()
    if not events or events[-1] != "[DONE]":
        raise ValueError("the stream has no end")
    pieces = [event for event in events[:-1] if event["choices"]]
    return {event["model"] for event in events[:-1]}, "".join(e["choices"][0]["text"] for e in pieces), None


async def keep_asking(traffic: Traffic, *, clients: int, meanwhile: Callable[[], Any]) -> None:
    """Run the traffic for as long as `meanwhile` takes."""
    tasks = [asyncio.create_task(traffic.client(number)) for number in range(clients)]
    try:
        await meanwhile()
    finally:
        traffic.stopped = True
        await asyncio.gather(*tasks)


def stale(seen: Iterable[Seen], flips: Sequence[tuple[float, str]]) -> list[Seen]:
    """Return the requests that were answered by a version whose time was over.

    `flips` are (when, label), in order. Right is every version that the route had in the second before the
    request began, or since then.
    """
    times = [at for at, _ in flips]
    late = []
    for each in seen:
        if each.label is None or each.failed:
            continue
        first = max(0, bisect_right(times, each.start - STALE_AFTER_S) - 1)
        last = bisect_right(times, each.end)
        if each.label not in {label for _, label in flips[first:last]}:
            late.append(each)
    return late


def figures_of(seen: Sequence[Seen], flips: Sequence[tuple[float, str]]) -> dict[str, Any]:
    """Return the figures of the traffic; latencies are of answered requests, by the phase they began in."""
    failed = [each.failed for each in seen if each.failed]
    wrong = [each.wrong for each in seen if each.wrong]
    late = stale(seen, flips)
    by_phase = {
        phase: sorted(
            int((each.end - each.start) * 1e6) for each in seen if each.phase == phase and not each.failed
        )
        for phase in ("steady", "swapping")
    }
    return {
        "requests": len(seen),
        "failed": len(failed),
        "wrong_version": len(wrong),
        "stale_after_flip": len(late),
        "p99_ms_steady": quantile(by_phase["steady"], 0.99) / 1000,
        "p99_ms_swapping": quantile(by_phase["swapping"], 0.99) / 1000,
        "more": {
            "p50_ms_steady": quantile(by_phase["steady"], 0.5) / 1000,
            "p50_ms_swapping": quantile(by_phase["swapping"], 0.5) / 1000,
            "requests_steady": len(by_phase["steady"]),
            "requests_swapping": len(by_phase["swapping"]),
            "versions_that_answered": len({each.label for each in seen if each.label}),
            "failures": dict(Counter(text[:160] for text in failed).most_common(8)),
            "wrong": dict(Counter(text[:160] for text in wrong).most_common(8)),
            "longest_stale_s": _longest(late, flips),
        },
    }


def _longest(late: Sequence[Seen], flips: Sequence[tuple[float, str]]) -> float:
    """Return how long after its time was over a version still answered a request that began then."""
    longest = 0.0
    for each in late:
        ends = [at for (_, label), (at, _) in pairwise(flips) if label == each.label and at <= each.start]
        longest = max(longest, each.start - ends[-1]) if ends else longest
    return round(longest, 3)
