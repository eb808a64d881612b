"""The two clocks of the controller, in one place, so that a test can run them."""

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """`monotonic` times what this process waits for; `wall` (seconds since the epoch) stamps what is stored.

    Whether somebody else is alive is never judged by comparing wall clocks: see `drain` and `Lease`.
    """

    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
