"""Shadow traffic: requests answered once more by another version, after their clients have their answers.

A replay never costs a client anything that it can feel: it takes only places that are free anyway, counts
against a budget of its own, is sent once, and is dropped and counted whenever that is not possible. No
experiment counts it; both answers are stored side by side.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.core.refs import BASE
from gateway.relay import Call
from gateway.shadows.allowance import Allowance
from gateway.shadows.replays import Replays
from gateway.shadows.sample import Sample
from gateway.telemetry import Telemetry

_log = logging.getLogger("turnout.shadows")


@dataclass(frozen=True, slots=True)
class ShadowLimits:
    """What replays may take, in all workers together; `max_wait_s` is how old one may be when it is sent."""

    max_in_flight: int
    max_queue: int
    max_wait_s: float
    per_minute: float
    max_body_bytes: int


class Shadows:
    """The queue of replays and those that run. Belongs to one event loop."""

    def __init__(
        self,
        replays: Replays,
        telemetry: Telemetry,
        *,
        limits: ShadowLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._replays = replays
        self._telemetry = telemetry
        self._limits = limits
        self._clock = clock
        self._at_once = limits.max_in_flight
        self._allowance = Allowance(limits.per_minute, clock=clock)
        self._queue: deque[Sample] = deque()
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def busy(self) -> int:
        """How many replays wait or run."""
        return len(self._queue) + len(self._running)

    def share(self, workers: int) -> None:
        """Take this worker's share of the limits."""
        self._at_once = max(1, self._limits.max_in_flight // workers) if self._limits.max_in_flight else 0
        self._allowance.resize(self._limits.per_minute / workers)

    def offer(self, call: Call) -> None:
        """Take a request that has ended, for its shadow. Never waits and never fails.

        Its texts were kept for this alone where the route does not capture them; they leave the row here.
        """
        row = call.row
        if row.status == 200 and not row.internal and not self._closed:
            self._take(call)
        if not call.target.capture:
            row.prompt = row.answer = None

    async def aclose(self) -> None:
        """Drop what waits and break off what runs."""
        self._closed = True
        for sample in self._queue:
            self._count(sample.shadow, "shutdown")
        self._queue.clear()
        running = list(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    # --- taking -------------------------------------------------------------------------------------------

    def _take(self, call: Call) -> None:
        shadow = call.target.shadow or BASE
        refusal = self._refusal(shadow, call)
        if refusal is not None:
            self._count(shadow, refusal)
            return
        self._queue.append(
            Sample(
                path=call.path,
                payload=call.payload,
                shape=call.shape,
                shadow=shadow,
                row=call.row,
                prompt=call.row.prompt,
                answer=call.row.answer,
                redacted=call.target.redact,
                offered_at=self._clock(),
            )
        )
        if len(self._running) < self._at_once:
            task = asyncio.get_running_loop().create_task(self._work(), name="turnout-shadow")
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _refusal(self, shadow: str, call: Call) -> str | None:
        """Return why a request is not replayed, as `turnout_shadow_requests_total` names it."""
        if not self._at_once:
            return "off"
        if self._replays.resting(shadow):
            return "resting"
        if len(call.payload) > self._limits.max_body_bytes:
            return "too_large"
        if len(self._queue) >= self._limits.max_queue:
            return "queue_full"
        return None if self._allowance.take() else "over_budget"

    def _count(self, shadow: str, outcome: str) -> None:
        self._telemetry.shadow_requests.labels(self._telemetry.adapter_label(shadow), outcome).inc()

    async def _work(self) -> None:
        while self._queue:
            sample = self._queue.popleft()
            if self._clock() - sample.offered_at > self._limits.max_wait_s:
                self._count(sample.shadow, "late")
                continue
            try:
                outcome = await self._replays.run(sample)
            except asyncio.CancelledError:
                self._count(sample.shadow, "shutdown")
                raise
            except Exception:  # noqa: BLE001 - a background loop: counted, logged, and it goes on
                self._telemetry.background_errors.labels("shadow").inc()
                _log.exception("the replay of %s failed", sample.row.id)
                outcome = "failed"
            self._count(sample.shadow, outcome)
