"""The fake engine's steps: how many it took, what shares them, and what that does to the last places."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.fake_engine_http import Request
from tests.fake_engine_knobs import Knobs
from tests.fake_engine_shapes import is_single_token, prompts_in
from tests.fake_engine_weights import Rounding


class Steps:
    """A step a call, two for a batch that is taken apart. `small` ones have a single prompt token."""

    def __init__(self) -> None:
        self.all = 0
        self.small = 0
        self.running = 0
        self.ended = 0
        self._single = 0

    def rounding(self, request: Request, knobs: Knobs) -> Rounding | None:
        """Count the steps of a call, and return what sharing them does to its answer.

        An engine that is at a single token takes no other request into that step.
        """
        split = prompts_in(request) > 1 and knobs.split_batches > 0
        knobs.split_batches -= split
        self.all += 1 + split
        self.small += is_single_token(request)
        beside = self.running - self._single
        return (
            Rounding(knobs.rounding, f"{prompts_in(request)} beside {beside}, {split}")
            if knobs.rounding
            else None
        )

    @contextmanager
    def taken(self, request: Request) -> Iterator[None]:
        """Count a call as running until the block ends, and its prompts as ended then."""
        self.running += 1
        self._single += is_single_token(request)
        try:
            yield
        finally:
            self.running -= 1
            self._single -= is_single_token(request)
            self.ended += prompts_in(request)
