"""Requests made for tests of experiments: drawn as the gateway draws them, on a clock of the test's own."""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from gateway.core.routes import Arm
from gateway.experiments.measures import Said
from gateway.experiments.units import Answer
from gateway.routing.experiments import Lottery

STABLE, CANDIDATE = "s@1", "s@2"


def answer(name: str = "q1", *, arm: str = STABLE, chance: float | None = 0.5, **more: object) -> Answer:
    """One request, answered well within a second."""
    usual = {
        "at": 0.0,
        "unit": None,
        "generation": 1,
        "adapter": arm,
        "status": 200,
        "error_code": None,
        "streamed": False,
        "ttft_ms": None,
        "latency_ms": 100.0,
        "completion_tokens": 10,
        "finish_reason": "stop",
    }
    return Answer(id=name, arm=arm, arm_probability=chance, **{**usual, **more})  # type: ignore[arg-type]


@dataclass
class Traffic:
    """A stream of requests on one route whose shares change; a request takes `gap_s` after the one before."""

    shares: Mapping[str, float]
    generation: int = 1
    now: float = 1_000.0
    gap_s: float = 1.0
    dice: random.Random = field(default_factory=lambda: random.Random(1))
    epochs: dict[int, Mapping[str, float]] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    said: list[Said] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.epochs[self.generation] = self.shares

    def change(self, shares: Mapping[str, float]) -> None:
        """Begin another epoch."""
        self.generation += 1
        self.shares = self.epochs[self.generation] = shares

    def run(
        self,
        count: int,
        *,
        subject: Callable[[int], str | None] = lambda _: None,
        fails: Mapping[str, float] | None = None,
        liked: Mapping[str, float] | None = None,
        rates: float = 1.0,
    ) -> None:
        """Make requests; by arm, how many fail, and how many of those that are rated are liked."""
        lottery = Lottery("r", "", [Arm(adapter=arm, share=share) for arm, share in self.shares.items()])
        for number in range(count):
            self.now += self.gap_s
            name, who = f"q{len(self.answers)}", subject(number)
            arm = list(self.shares)[lottery.arm(who or name)]
            status = 500 if self.dice.random() < (fails or {}).get(arm, 0.0) else 200
            self.answers.append(
                answer(
                    name,
                    arm=arm,
                    chance=self.shares[arm],
                    at=self.now,
                    unit=who and lottery.unit(who),
                    generation=self.generation,
                    status=status,
                )
            )
            if liked is not None and self.dice.random() < rates:
                value = float(self.dice.random() < liked[arm])
                self.said.append(Said(name, "thumbs", value, self.now + 0.5))
