"""A route with days of recorded traffic, a fake embedding model, and a watcher whose clock a test turns."""

import random
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway.core.routes import Arm, RouteStatus
from gateway.store.control import ControlStore
from gateway.store.requests import Requests
from gateway.store.watches import lease_name
from monitoring.watch.look import Look, Watcher
from monitoring.watch.options import WatchOptions
from monitoring.watch.texts import words
from monitoring.watch.vectors import Vectors
from tests.monitoring.made import ROUTE, opened, put_route, request_rows, sentences

DAY = 86_400.0
MIDNIGHT = (time.time() // DAY + 2) * DAY
"""The begin of a day of UTC, after the promotion, which the store dates by its own clock: not the next one,
which may come while the tests run."""

OPTIONS = WatchOptions(
    min_rows=200, min_days=2, look_rows=500, settle_s=60, report_every_s=1e12, report_rows=200
)


class FakeEncoder:
    """Sums a fixed random vector for each word: texts with the same words lie near each other."""

    name = "fake"

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Return one unit vector a text."""
        self.encoded += texts
        found = np.array([sum((_of(word) for word in words(text)), _of("")) for text in texts])
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def _of(word: str) -> NDArray[np.float64]:
    return np.random.default_rng(zlib.crc32(word.encode())).normal(size=12)


def one_language(texts: Sequence[str]) -> list[str | None]:
    """Every text is English."""
    return ["en"] * len(texts)


class House:
    """The stores of one route, and a watcher on them. `now` is its clock."""

    def __init__(self, control: ControlStore, requests: Requests, options: WatchOptions = OPTIONS) -> None:
        self.control = control
        self.requests = requests
        self.encoder = FakeEncoder()
        self.now = MIDNIGHT
        self.options = options
        self.watcher = self.new_watcher()

    def new_watcher(self) -> Watcher:
        """Return another watcher on the same stores, as a process that was started again would have."""
        vectors = Vectors(self.requests.embeddings, self.encoder)
        return Watcher(
            self.control,
            self.requests,
            vectors,
            options=self.options,
            languages=one_language,
            clock=lambda: self.now,
        )

    def traffic(self, topic: str, *, days: float, a_day: int, seed: int, **changes: Any) -> None:
        """Record prompts of a topic from now on, each of a subject of its own; then it is their end."""
        count = round(days * a_day)
        draw = random.Random(seed)
        rows = request_rows(sentences(topic, count, seed=seed), seed=seed, **changes)
        for place, row in enumerate(rows):
            row.at = self.now + (place + draw.random()) * DAY / a_day
            row.id = f"req-{int(row.at):08x}{draw.getrandbits(64):016x}"
            row.unit = row.unit or f"unit-{draw.getrandbits(40):x}"
        self.requests.write(rows)
        self.now += days * DAY

    def promote(self, adapter: str = "support@1") -> None:
        """Give a version all of the route's traffic."""
        route = self.control.routes.get(ROUTE)
        assert route is not None
        status = RouteStatus(state="active", effective_arms=(Arm(adapter=adapter, share=1),))
        self.control.routes.set_status(ROUTE, status, generation=route.generation, actor="controller")

    def look(self, watcher: Watcher | None = None, *, routes: int = 1) -> Look:
        """Look at the route once, a little later than what was recorded."""
        self.now += 2 * self.options.settle_s
        route = self.control.routes.get(ROUTE)
        epoch = self.control.fleet.acquire(lease_name(ROUTE), "me", ttl_s=60)
        assert route is not None
        assert epoch is not None
        return (watcher or self.watcher).look(route, routes=routes, epoch=epoch)


@contextmanager
def house(folder: Path, options: WatchOptions = OPTIONS) -> Iterator[House]:
    """Open the stores with one route, whose version `support@1` has been promoted before `MIDNIGHT`."""
    with opened(folder) as (control, requests):
        put_route(control)
        made = House(control, requests, options)
        made.promote()
        yield made
