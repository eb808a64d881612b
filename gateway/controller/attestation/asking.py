"""Asks one engine, and tells whether it was quiet: whether the answers came about in known conditions.

What shares an engine's step with a prompt changes the last places of the answer, on GPUs and on some CPUs.
So the engine's metrics are read around every question. It was quiet when they count no request but ours, and
when all prompts of a batch were in one step of their own. To bring that about, a request of a single token
goes first: while the engine is busy with it the whole batch arrives.
"""

import asyncio
import uuid
from dataclasses import dataclass

from adapters.answers import TOP, Answers
from gateway.controller.engine_api import EngineApi, Identity

TRIES = 3
"""So often a batch is asked that nobody disturbed and that the engine took in several steps."""

LEAD_S = 0.003
"""How long before a batch the single token is sent. A step takes 5 ms and more."""


class IncarnationChanged(Exception):
    """The engine is no longer the process that was asked; nothing was proved."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What a model said to some prompts, under the name that the engine echoed.

    When the engine was `quiet`, the same question gets the same answer nearly to the last digit.
    """

    model: str
    tops: Answers
    quiet: bool


class Asker:
    """Asks one engine in one incarnation at a time. Not for two at once."""

    def __init__(self, api: EngineApi, *, base_model: str) -> None:
        """Ask nothing yet. `base_model` is what the engine calls its base model."""
        self._api = api
        self._base_model = base_model
        self._last: Identity | None = None

    async def look(self, incarnation: str) -> Identity:
        """Return what the engine says of itself now. What is asked from here on is asked of this incarnation.

        Raises:
            IncarnationChanged: the engine is another process.
            EngineError: it can't be told.
        """
        present = await self._api.identity()
        if present.incarnation != incarnation:
            raise IncarnationChanged(
                f"the engine restarted: incarnation {present.incarnation}, not {incarnation}"
            )
        self._last = present
        return present

    async def together(self, model: str, prompts: tuple[str, ...]) -> Heard:
        """Ask several prompts in one batch, under a salt of their own.

        Raises:
            IncarnationChanged: the engine restarted meanwhile.
            EngineError: the engine refused the probes or could not be reached.
        """
        for left in reversed(range(TRIES)):
            before = self._seen()
            first = asyncio.create_task(self._api.occupy(self._base_model))
            try:
                await asyncio.sleep(LEAD_S)
                answer = await self._api.first_tokens(model, prompts, count=TOP, cache_salt=uuid.uuid4().hex)
                await first
            finally:
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
            after = await self.look(before.incarnation)
            undisturbed = _nobody_else(before, after, len(prompts) + 1)
            quiet = undisturbed and _steps(before, after) == (2, 1)
            if quiet or not undisturbed or not left:
                break
        return Heard(answer.model, answer.tops, quiet)

    async def one(self, model: str, prompt: str, *, salt: str | None) -> Heard:
        """Ask one prompt, with a salt or, as traffic comes, without one.

        Raises:
            IncarnationChanged: the engine restarted meanwhile.
            EngineError: the engine refused the probe or could not be reached.
        """
        before = self._seen()
        answer = await self._api.first_tokens(model, (prompt,), count=TOP, cache_salt=salt)
        after = await self.look(before.incarnation)
        return Heard(answer.model, answer.tops, _nobody_else(before, after, 1))

    async def fill(self, model: str, prompts: tuple[str, ...], *, salt: str) -> None:
        """Have prompts cached under a salt, in whatever steps the engine takes them.

        Raises:
            IncarnationChanged: the engine restarted meanwhile.
            EngineError: the engine refused the prompts or could not be reached.
        """
        before = self._seen()
        await self._api.first_tokens(model, prompts, count=TOP, cache_salt=salt)
        await self.look(before.incarnation)

    def _seen(self) -> Identity:
        if self._last is None:
            raise RuntimeError("look at the engine first")
        return self._last


def new_salt() -> str:
    """Return a salt that nothing was cached under."""
    return uuid.uuid4().hex


def _nobody_else(before: Identity, after: Identity, own: int) -> bool:
    """Whether an engine had nothing to do between two looks at it but `own` prompts."""
    if before.ended_requests is None or after.ended_requests is None:
        return False
    ended = after.ended_requests - before.ended_requests
    return (before.open_requests, after.open_requests, ended) == (0, 0, own)


def _steps(before: Identity, after: Identity) -> tuple[int, int] | None:
    """Return how many steps an engine took between two looks, and how many of them were small ones."""
    if before.steps is None or after.steps is None:
        return None
    return after.steps[0] - before.steps[0], after.steps[1] - before.steps[1]
