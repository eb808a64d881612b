"""Plays the users of `make demo-loop`: each asks the gateway, reads the answer, and says what it thinks."""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import httpx

from loadtests.demo.house import House, bearer
from loadtests.demo.people import Habits, Visit, same
from loadtests.demo.poison import Poison, opinion

TRIES = 4
TIMEOUT_S = 180.0
ANSWER_TOKENS = 6


@dataclass(slots=True)
class Log:
    """What became of the visits. `lies` are the ids of the requests whose feedback is poison."""

    sent: int = 0
    failed: int = 0
    right: dict[str, int] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    rated: int = 0
    lies: set[str] = field(default_factory=set)
    versions: dict[str, int] = field(default_factory=dict)

    def add(self, visit: Visit, answer: str, version: str) -> None:
        """Count an answer."""
        domain = visit.review.domain
        self.sent += 1
        self.asked[domain] = self.asked.get(domain, 0) + 1
        self.right[domain] = self.right.get(domain, 0) + int(same(answer, visit.review.wanted))
        self.versions[version] = self.versions.get(version, 0) + 1


@dataclass(frozen=True, slots=True)
class Answered:
    """A request that was answered: its id, and what was said."""

    request_id: str
    said: str


class Failed(Exception):
    """The gateway gave no answer, however often it was asked."""


class Crowd:
    """The users of one route, all of one mind or with liars among them."""

    def __init__(
        self, house: House, route: str, *, habits: Habits, seed: int, poison: Poison | None = None
    ) -> None:
        self.log = Log()
        self._house = house
        self._route = route
        self._habits = habits
        self._poison = poison
        self._generator = random.Random(f"{seed}/{route}/opinions")

    async def play(
        self,
        visits: Iterable[Visit],
        *,
        at_once: int,
        until: Callable[[], bool] = lambda: False,
        pause_s: Callable[[], float] = lambda: 0.0,
        known: Mapping[str, Answered] | None = None,
    ) -> None:
        """Send visits until there are none left or `until` holds; one without an answer is counted.

        Each of the `at_once` users waits for `pause_s` before a visit. `known` are answers by subject that
        were given before: these are rated and not asked for again.
        """
        queue = iter(visits)
        url = self._house.service.url
        before = known or {}
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False) as http:

            async def user() -> None:
                for visit in queue:
                    if until():
                        return
                    await asyncio.sleep(pause_s())
                    try:
                        answered = before.get(visit.subject) or await self._ask(http, visit)
                        await self._rate(http, visit, answered)
                    except Failed:
                        self.log.failed += 1

            await asyncio.gather(*(user() for _ in range(at_once)))

    async def _ask(self, http: httpx.AsyncClient, visit: Visit) -> Answered:
        headers = bearer(self._house.keys[visit.who])
        body = {
            "model": self._route,
            "messages": [{"role": "user", "content": visit.review.prompt}],
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "user": visit.subject,
        }
        answer = await _post(http, "/v1/chat/completions", body, headers)
        said = str(answer.json()["choices"][0]["message"]["content"] or "")
        self.log.add(visit, said, answer.headers.get("x-turnout-adapter", ""))
        return Answered(answer.headers["x-request-id"], said)

    async def _rate(self, http: httpx.AsyncClient, visit: Visit, answered: Answered) -> None:
        generator = self._generator
        thinks = opinion(visit, answered.said, self._poison, habits=self._habits, generator=generator)
        if not thinks.metrics:
            return
        body = {"request_id": answered.request_id, "metrics": thinks.metrics}
        await _post(http, "/v1/feedback", body, bearer(self._house.keys[visit.who]))
        self.log.rated += 1
        if visit.lies:
            self.log.lies.add(answered.request_id)


async def _post(
    http: httpx.AsyncClient, path: str, body: Mapping[str, object], headers: dict[str, str]
) -> httpx.Response:
    """Send a request, and again when the service is busy, as a client would."""
    for attempt in range(TRIES):
        try:
            answer = await http.post(path, json=body, headers=headers)
        except httpx.HTTPError:
            answer = None
        if answer is not None and answer.status_code == 200:
            return answer
        if answer is not None and answer.status_code not in (404, 429, 503):
            raise Failed(f"{path}: {answer.status_code} {answer.text[:200]}")
        await asyncio.sleep(0.5 * 2**attempt)
    raise Failed(f"{path}: no answer")
