"""From recorded requests to units: whom an experiment exposed to which arm, when, and with which chances.

A unit is a sticky subject, or a single request where there is none. It is exposed in an epoch at the end of
its first answer there, and counts in that answer's arm. Everything is ordered by the end of answers, which is
when anybody can know of them, so that looking later adds units and changes none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from gateway.experiments.outcomes import Epochs, Shares
from gateway.experiments.returning import chances

_TOLERANCE = 1e-9


class Answer(NamedTuple):
    """As much of a recorded request as an experiment needs; names and units are those of `RequestRow`.

    `cold`: it waited until its version was loaded. `schema_valid`: whether it is the JSON that was asked for.
    """

    id: str
    at: float
    arm: str
    arm_probability: float | None
    unit: str | None
    generation: int
    adapter: str
    status: int
    error_code: str | None
    streamed: bool
    ttft_ms: float | None
    latency_ms: float
    completion_tokens: int | None
    finish_reason: str | None
    cold: bool = False
    schema_valid: bool | None = None

    @property
    def ended_at(self) -> float:
        """When the client had its answer, in seconds since the epoch."""
        return self.at + max(0.0, self.latency_ms) / 1000


@dataclass(slots=True)
class Unit:
    """One unit in one epoch. `answers`: those in its arm, by their end; `before`: its earlier epochs.

    `exposed_at` is when it had its first answer, `last_at` when it had its last one.
    """

    name: str
    epoch: int
    arm: str
    sticky: bool
    answers: list[Answer]
    before: tuple[tuple[int, str], ...] = ()
    exposed_at: float = field(init=False)
    last_at: float = field(init=False)

    def __post_init__(self) -> None:
        self.exposed_at, self.last_at = self.answers[0].ended_at, self.answers[-1].ended_at

    @property
    def began_at(self) -> float:
        """When it first asked."""
        return min(answer.at for answer in self.answers)

    def answered(self, until: float) -> Sequence[Answer]:
        """Return the answers that it had by a time."""
        if self.last_at <= until:
            return self.answers
        return [answer for answer in self.answers if answer.ended_at <= until]

    def chances(self, epochs: Epochs, *, stable: str, candidate: str) -> Shares | None:
        """Return the chances that the two arms had for this unit; None when it must not be counted again."""
        shares = epochs[self.epoch]
        if not self.before:
            return shares
        history = [(epochs[epoch], arm) for epoch, arm in self.before]
        return chances(history, shares, stable=stable, candidate=candidate)


@dataclass(slots=True)
class Exposed:
    """Every unit in the order of exposure, units by epoch and arm, and the answers that fit into no epoch."""

    units: list[Unit] = field(default_factory=list)
    counts: dict[int, dict[str, int]] = field(default_factory=dict)
    astray: int = 0

    def settled(self, before: float) -> dict[int, dict[str, int]]:
        """Return the counts of those units alone that began before a time."""
        counts: dict[int, dict[str, int]] = {}
        for unit in self.units:
            if unit.began_at < before:
                theirs = counts.setdefault(unit.epoch, {})
                theirs[unit.arm] = theirs.get(unit.arm, 0) + 1
        return counts


def expose(answers: Iterable[Answer], epochs: Epochs, *, until: float) -> Exposed:
    """Return the units of these answers that had ended by `until` (seconds since the epoch)."""
    placer = _Placer(epochs)
    met: dict[tuple[str, int], list[Answer]] = {}
    exposed = Exposed()
    ended = [(at, answer.id, answer) for answer in answers if (at := answer.ended_at) <= until]
    for _, _, answer in sorted(ended, key=itemgetter(0, 1)):
        epoch = placer.epoch(answer)
        if epoch is None:
            exposed.astray += 1
            continue
        theirs = met.setdefault((answer.unit or answer.id, epoch), [])
        if not theirs or theirs[0].arm == answer.arm:
            theirs.append(answer)
    before: dict[str, tuple[tuple[int, str], ...]] = {}
    for (name, epoch), theirs in met.items():  # in the order of their first answers
        arm = theirs[0].arm
        earlier = before.get(name, ())
        exposed.units.append(Unit(name, epoch, arm, theirs[0].unit is not None, theirs, earlier))
        if theirs[0].unit is not None:
            before[name] = (*earlier, (epoch, arm))
        counts = exposed.counts.setdefault(epoch, {})
        counts[arm] = counts.get(arm, 0) + 1
    return exposed


class _Placer:
    """Finds the epoch of an answer by the generation of the table that it was resolved by.

    A table is read in several steps: one that is read during a flip may bear the generation from before and
    have the shares from after it. The chance that was recorded with the answer tells the two apart.
    """

    def __init__(self, epochs: Epochs) -> None:
        self._epochs = epochs
        self._starts = sorted(epochs)
        self._known: dict[tuple[int, str, float | None], int | None] = {}

    def epoch(self, answer: Answer) -> int | None:
        """Return the generation from which the answer's epoch holds; None when it fits into none."""
        key = (answer.generation, answer.arm, answer.arm_probability)
        if key not in self._known:
            self._known[key] = self._find(*key)
        return self._known[key]

    def _find(self, generation: int, arm: str, chance: float | None) -> int | None:
        here = [start for start in self._starts if start <= generation][-1:]
        after = [start for start in self._starts if start > generation][:1]
        for start in (*here, *after):
            if _fits(self._epochs[start], arm, chance):
                return start
        return None


def _fits(shares: Mapping[str, float], arm: str, chance: float | None) -> bool:
    return chance is not None and abs(shares.get(arm, -1.0) - chance) <= _TOLERANCE
