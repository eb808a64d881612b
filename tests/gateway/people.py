"""People who ask a route and rate its answers: rows as gateways would have recorded them."""

import itertools
import random
import time
from collections.abc import Callable, Mapping

from gateway.core.requests import RequestRow
from gateway.routing.experiments import Lottery
from gateway.store.control import ControlStore
from gateway.store.feedback import FeedbackRow
from gateway.store.requests import Requests


class People:
    """They ask through stores alone; arms are drawn as workers draw them, ratings come at once."""

    def __init__(self, control: ControlStore, requests: Requests) -> None:
        self._control = control
        self._requests = requests
        self._ids = itertools.count()
        self._dice = random.Random(11)

    def ask(
        self,
        route: str,
        count: int,
        *,
        fails: Mapping[str, float] | None = None,
        liked: Mapping[str, float] | None = None,
        subject: Callable[[int], str | None] = lambda _: None,
        internal: bool = False,
    ) -> list[str]:
        """Have requests recorded; by arm, which share fails and which share is liked. Return the arms met."""
        known = self._control.routes.get(route)
        assert known is not None
        arms, generation = known.status.effective_arms, self._control.generation()
        lottery = Lottery(route, known.status.salt, arms)
        rows, ratings = [], []
        for _ in range(count):
            number = next(self._ids)
            name, who = f"req-{number:08x}{self._dice.randrange(16**24):024x}", subject(number)
            arm = arms[lottery.arm(who or name)]
            failed = self._dice.random() < (fails or {}).get(arm.adapter, 0.0)
            row = RequestRow(
                id=name,
                at=time.time(),
                endpoint="/v1/completions",
                route=route,
                arm=arm.adapter,
                arm_probability=arm.share,
                adapter=arm.adapter,
                unit=who and lottery.unit(who),
                generation=generation,
                status=502 if failed else 200,
                completion_tokens=8,
                finish_reason="stop",
                internal=internal,
            )
            rows.append(row)
            if liked is not None:
                value = self._dice.random() < liked[arm.adapter]
                ratings.append(
                    FeedbackRow(name, route, row.adapter, row.arm, "thumbs", value, None, "k", row.at)
                )
        self._requests.write(rows)
        if ratings:
            self._control.feedback.add(*ratings)
        return [str(row.arm) for row in rows]
