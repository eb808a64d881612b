"""What the effective controller does beside replicas and routes: experiments, the loop, old rows, usage."""

from collections.abc import Callable
from dataclasses import dataclass

from gateway.controller.experimenter import Experimenter
from gateway.controller.looper import Looper
from gateway.controller.pruner import Pruner
from gateway.controller.summing import Summing
from gateway.store.control import Snapshot


@dataclass(frozen=True, slots=True)
class Upkeep:
    """The parts, each None where what it works on is missing. None of them holds up a turn."""

    experimenter: Experimenter | None = None
    looper: Looper | None = None
    summing: Summing | None = None
    pruner: Pruner | None = None

    def start(self, read: Callable[[], Snapshot], epoch: int) -> None:
        """Have each do what is due, unless it is still at it."""
        for deciding in (self.experimenter, self.looper):
            if deciding is not None:
                deciding.start(read(), epoch)
        for tidying in (self.summing, self.pruner):
            if tidying is not None:
                tidying.start()

    async def stop(self) -> None:
        """Stop what was begun in an epoch that is over."""
        for part in (self.experimenter, self.summing, self.pruner, self.looper):
            if part is not None:
                await part.stop()

    async def close(self) -> None:
        """End what outlives an epoch, since this controller ends."""
        if self.looper is not None:
            await self.looper.close()
