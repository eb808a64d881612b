"""Plays the users of `make demo-loop`: each asks the gateway, reads the answer, and says what it thinks."""

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import httpx

from loadtests.demo_house import House, bearer
from loadtests.demo_people import Habits, Visit, same
from loadtests.demo_poison import Poison, opinion

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
        self, visits: Iterable[Visit], *, at_once: int, until: Callable[[], bool] = lambda: False
    ) -> None:
        """Send visits until there are none left or `until` holds; one without an answer is counted."""
        queue = iter(visits)
        url = self._house.service.url
        async with httpx.AsyncClient(base_url=url, timeout=TIMEOUT_S, trust_env=False) as http:

            async def user() -> None:
                for visit in queue:
                    if until():
                        return
                    try:
                        await self._visit(http, visit)
                    except Failed:
                        self.log.failed += 1

            await asyncio.gather(*(user() for _ in range(at_once)))

    async def _visit(self, http: httpx.AsyncClient, visit: Visit) -> None:
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
        request_id = answer.headers["x-request-id"]
        self.log.add(visit, said, answer.headers.get("x-turnout-adapter", ""))
        thinks = opinion(visit, said, self._poison, habits=self._habits, generator=self._generator)
        if not thinks.metrics:
            return
        await _post(http, "/v1/feedback", {"request_id": request_id, "metrics": thinks.metrics}, headers)
        self.log.rated += 1
        if visit.lies:
            self.log.lies.add(request_id)


async def _post(
    http: httpx.AsyncClient, path: str, body: dict[str, object], headers: dict[str, str]
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
