"""A judge behind an OpenAI-compatible endpoint: asked in both orders, with bounded concurrency and retries.

Verdicts are kept, so that an evaluation that goes on asks only what is missing. One that can't be read is
counted, and asked again by the next run.
"""

import asyncio
import hashlib
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from training.data.rows import Example
from training.evaluation.cache import Cache
from training.evaluation.preference import RUBRIC, Choice, Pair, Preferences, add_up, read_verdict
from training.fitting.template import instructed

CONCURRENCY = 4
TRIES = 5
FIRST_WAIT_S = 0.5
MAX_WAIT_S = 30.0
TIMEOUT_S = 120.0
VERDICT_TOKENS = 400
MAX_FAILURES = 8
"""After so many calls that failed for good, the judge is not asked any more."""

_AGAIN = {408, 409, 425, 429, 500, 502, 503, 504, 529}
Sleep = Callable[[float], Awaitable[None]]


class JudgeFailed(Exception):
    """One call failed for good; the message says how."""


@dataclass(frozen=True, slots=True)
class JudgeSettings:
    """Which judge, by what rubric. `key` never appears in a report."""

    url: str
    model: str
    key: str | None = field(default=None, repr=False)
    rubric: str = RUBRIC
    concurrency: int = CONCURRENCY
    rows: int | None = None

    def __post_init__(self) -> None:
        """Refuse what can't be asked."""
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).hostname:
            raise ValueError(f"--judge-url {self.url!r} is not an address like https://api.example.com/v1")
        if not self.rubric.strip():
            raise ValueError("the judge's rubric is empty")
        if self.concurrency < 1:
            raise ValueError(f"--judge-concurrency is {self.concurrency}, and must be at least 1")


@dataclass(slots=True)
class _Tally:
    malformed: int = 0
    failures: int = 0
    reason: str | None = None


def preferences(
    settings: JudgeSettings,
    rows: Sequence[Example],
    ours: Sequence[str],
    theirs: Sequence[str],
    *,
    against: str,
    groups: Sequence[object],
    cache: Path | None,
    seed: int,
    on_row: Callable[[int], None],
    instruction: str | None = None,
    sleep: Sleep = asyncio.sleep,
) -> Preferences:
    """Ask the judge which of two answers to each row is better. One that fails is a finding, not an error.

    `instruction` is what the systems found before the prompt of every row.
    """
    judge = _Judge(settings, instruction, cache, sleep)
    pairs = asyncio.run(judge.pairs(rows, ours, theirs, on_row))
    return add_up(
        pairs,
        judge=settings.model,
        against=against,
        malformed=judge.tally.malformed,
        groups=groups[: len(pairs)],
        seed=seed,
        note=judge.tally.reason,
    )


class _Judge:
    def __init__(
        self, settings: JudgeSettings, instruction: str | None, cache: Path | None, sleep: Sleep
    ) -> None:
        self._settings = settings
        self._instruction = instruction
        conditions = {"judge": settings.model, "rubric": settings.rubric, "url": settings.url}
        if instruction is not None:  # what was kept of prompts without one is as good as it was
            conditions["instruction"] = instruction
        self._cache = Cache(cache, conditions)
        self._sleep = sleep
        self._limit = "max_tokens"
        self._room = asyncio.Semaphore(settings.concurrency)
        self.tally = _Tally()

    async def pairs(
        self,
        rows: Sequence[Example],
        ours: Sequence[str],
        theirs: Sequence[str],
        on_row: Callable[[int], None],
    ) -> list[Pair | None]:
        headers = {"authorization": f"Bearer {self._settings.key}"} if self._settings.key else {}
        loopback = urlsplit(self._settings.url).hostname in {"127.0.0.1", "localhost", "::1"}
        async with httpx.AsyncClient(headers=headers, timeout=TIMEOUT_S, trust_env=not loopback) as http:

            async def one(row: Example, our: str, their: str) -> Pair | None:
                pair = await self._pair(http, row, our, their)
                on_row(1)
                return pair

            count = self._settings.rows or len(rows)
            return list(
                await asyncio.gather(
                    *(one(*each) for each in zip(rows[:count], ours[:count], theirs[:count], strict=True))
                )
            )

    async def _pair(self, http: httpx.AsyncClient, row: Example, our: str, their: str) -> Pair | None:
        if our.strip() == their.strip():
            return Pair("tie", "tie", same=True)
        try:
            return Pair(
                await self._verdict(http, row, our, their), await self._verdict(http, row, their, our)
            )
        except JudgeFailed as error:
            self.tally.failures += 1
            self.tally.reason = self.tally.reason or str(error)
            return None

    async def _verdict(self, http: httpx.AsyncClient, row: Example, first: str, second: str) -> Choice | None:
        question = _question(row, self._instruction, first, second)
        key = hashlib.sha256(question.encode()).hexdigest()[:32]
        kept = self._cache.get(key)
        if kept is not None:
            return read_verdict(str(kept["said"]))
        async with self._room:
            if self.tally.failures >= MAX_FAILURES:
                raise JudgeFailed(f"given up after {MAX_FAILURES} failures")
            said = await self._ask(http, question)
        verdict = read_verdict(said)
        if verdict is None:
            self.tally.malformed += 1
        else:
            self._cache.add({key: {"said": said}})
        return verdict

    async def _ask(self, http: httpx.AsyncClient, question: str) -> str:
        reason = ""
        for attempt in range(TRIES):
            wait = min(MAX_WAIT_S, FIRST_WAIT_S * 2**attempt) * (0.5 + random.random())  # noqa: S311 - jitter
            try:
                answer = await http.post(
                    f"{self._settings.url.rstrip('/')}/chat/completions", json=self._body(question)
                )
            except httpx.HTTPError as error:
                reason = f"the judge can't be reached ({type(error).__name__})"
            else:
                if answer.is_success:
                    return _content(answer)
                reason = f"the judge answered HTTP {answer.status_code}"
                if answer.status_code == 400 and "max_completion_tokens" in answer.text:
                    # Newer models of OpenAI's know the limit by another name.
                    self._limit = "max_completion_tokens"
                elif answer.status_code not in _AGAIN:
                    raise JudgeFailed(reason)
                wait = max(wait, _retry_after(answer))
            if attempt + 1 < TRIES:
                await self._sleep(wait)
        raise JudgeFailed(f"{reason}, {TRIES} times")

    def _body(self, question: str) -> dict[str, Any]:
        return {
            "model": self._settings.model,
            "messages": [
                {"role": "system", "content": self._settings.rubric},
                {"role": "user", "content": question},
            ],
            "temperature": 0,
            self._limit: VERDICT_TOKENS,
        }


def _question(row: Example, instruction: str | None, first: str, second: str) -> str:
    """Return what the judge reads. As JSON no answer can pretend to be the other one's end."""
    shown = {
        # What the systems were asked: without the instruction an answer that follows it would look wrong.
        "request": instructed(row, instruction),
        "answer for reference": row.completion,
        "answer A": first,
        "answer B": second,
    }
    return json.dumps(shown, ensure_ascii=False, indent=1)


def _content(answer: httpx.Response) -> str:
    try:
        content = answer.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError):
        return ""
    return content if isinstance(content, str) else ""


def _retry_after(answer: httpx.Response) -> float:
    try:
        return min(MAX_WAIT_S, max(0.0, float(answer.headers.get("retry-after", 0))))
    except ValueError:
        return 0.0
