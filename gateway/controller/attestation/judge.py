"""The rule of a proof: from answers to a verdict. Pure.

Noise is measured, never assumed: each reference holds the base model's answers beside the adapter's, and how
far this engine's base model is from those is how far two honest computations of the same weights are apart,
on this hardware, with this quantization, now. docs/attestation.md explains the figures,
docs/decisions/0009-attestation-by-measured-noise.md where the factors come from.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from adapters.answers import MAX_DRIFT, MIN_NOISE, STRONG, Answers, distance

TOLERANCE = 3.0
"""Answers belong to a reference up to so many times the noise. An adapter was at most 2.5 times as far from
its reference as the base model from its own (4,400 draws of six probes, PEFT against the CPU engine)."""

MIN_LOG_RATIO = math.log(1000)
"""So much likelier must the answers be under the version's own reference than under a rival's, taking each
probe as one observation with Laplace noise: the log of the ratio is probes x (farther - nearer) / noise."""

MAX_BASE_NOISE = 0.35
"""Nats. Three times the 0.12 that two implementations of the same quantized base model were apart at most.
What is farther is another base model, or one quantized in another way, and no noise."""

UNMEASURED_NOISE = 0.12
"""Nats, for a reference from before noise was measured: the most that PEFT and the engine were apart."""

Kind = Literal["training", "fleet", "itself"]


@dataclass(frozen=True, slots=True)
class Observation:
    """What one engine answers now.

    `repeat_noise` is how far its base model's answers to the same prompts are apart at most when they are
    asked again in the same conditions: nothing else in the engine, or other requests in the same batches.

    `cached` is the adapter's answer to one long prompt with whatever the engine has cached of it under this
    name, or None when that was not asked. `right` are the answers that it may be: computed anew, and from
    what these weights have cached. `cached_noise` is the noise of the conditions in which it was asked.
    """

    model: str
    own: Answers
    base: Answers
    repeat_noise: float
    right: tuple[Answers, ...] = ()
    cached: Answers | None = None
    cached_noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Reference:
    """What the version is known to answer, and the base model beside it. `who` made it.

    `made_noise` is what its maker measured, in nats, and `repeat_noise` that of the conditions in which an
    engine gave the answers. An `independent` one was not made by the engine under test, which could prove
    nothing but that it has not changed.
    """

    kind: Kind
    who: str
    own: Answers
    base: Answers | None
    made_noise: float | None = None
    independent: bool = True
    repeat_noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Rival:
    """What another version answers to the same probes, with the base model's answers in the same run.

    `repeat_noise` is that of the conditions in which it was asked, in nats.
    """

    label: str
    answers: Answers
    base: Answers | None
    repeat_noise: float = 0.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """The observation against one reference. Distances and noise are nats.

    `separation` is how far the nearest rival is from the reference, in units of the noise, and `log_ratio`
    how much likelier the answers are under the reference than under the likeliest rival that is told apart.
    """

    kind: Kind
    who: str
    independent: bool
    distance: float
    noise: float
    separation: float | None
    log_ratio: float | None
    likelier_rival: str | None

    @property
    def agrees(self) -> bool:
        """Whether the answers are within the tolerance."""
        return self.distance <= TOLERANCE * self.noise

    @property
    def strong(self) -> bool:
        """Whether agreeing with it means something: every rival is far enough away."""
        return self.independent and self.separation is not None and self.separation >= STRONG


@dataclass(frozen=True, slots=True)
class Verdict:
    """`fault` is None when the version is proved; `weak` says why the proof alone would not do, if so."""

    fault: str | None
    weak: str | None
    comparisons: tuple[Comparison, ...]
    to_base: float
    to_predecessor: float | None
    noise: float


def judge(
    name: str,
    seen: Observation,
    references: Sequence[Reference],
    predecessor: Rival | None,
    *,
    predecessor_unknown: str | None = None,
) -> Verdict:
    """Judge an engine's answers as those of the version `name`.

    `predecessor_unknown` names the version before when there is one and nobody knows its answers.
    """
    noise = max(MIN_NOISE, seen.repeat_noise)
    to_base = distance(seen.own, seen.base)
    to_predecessor = distance(seen.own, predecessor.answers) if predecessor else None
    rivals = [(Rival("the base model", seen.base, seen.base), noise)]
    if predecessor:
        rivals.append((predecessor, max(noise, predecessor.repeat_noise, _drift(seen, predecessor.base))))
    compared = tuple(_compare(seen, reference, rivals, noise) for reference in references)
    fault = (
        _wrong_name(name, seen)
        or _wrong_base(seen, references)
        or ("it answers like the base model" if to_base <= TOLERANCE * noise else None)
        or _wrong_adapter(compared, rivals, seen)
        or (
            "its prefix cache holds another adapter's blocks under this name; only a restart clears it"
            if stale(seen)
            else None
        )
    )
    weak = None if fault else _weakness(compared, predecessor_unknown)
    return Verdict(fault, weak, compared, to_base, to_predecessor, noise)


def stale(seen: Observation) -> bool:
    """Whether the engine has cached something under the name that these weights do not say."""
    if seen.cached is None:
        return False
    allowed = TOLERANCE * max(MIN_NOISE, seen.cached_noise)
    return all(distance(seen.cached, right) > allowed for right in seen.right)


def _compare(
    seen: Observation, reference: Reference, rivals: Sequence[tuple[Rival, float]], floor: float
) -> Comparison:
    drift = _drift(seen, reference.base)
    noise = max(floor, drift, reference.made_noise or 0.0, reference.repeat_noise)
    own = distance(seen.own, reference.own)
    separation: float | None = None
    ratio: float | None = None
    likelier: str | None = None
    for rival, rival_noise in rivals:
        unit = max(noise, rival_noise)
        apart = distance(reference.own, rival.answers) / unit
        separation = apart if separation is None else min(separation, apart)
        if apart < STRONG:
            continue
        against = len(seen.own) * (distance(seen.own, rival.answers) - own) / unit
        if ratio is None or against < ratio:
            ratio, likelier = against, rival.label
    return Comparison(
        reference.kind, reference.who, reference.independent, own, noise, separation, ratio, likelier
    )


def _drift(seen: Observation, base: Answers | None) -> float:
    """Return how far this engine's base model is from the one beside a reference: the noise between them."""
    return UNMEASURED_NOISE if base is None else min(MAX_DRIFT, distance(seen.base, base))


def _wrong_name(name: str, seen: Observation) -> str | None:
    return None if seen.model == name else f"the engine answered as {seen.model!r} when asked for {name!r}"


def _wrong_base(seen: Observation, references: Sequence[Reference]) -> str | None:
    for reference in references:
        if reference.base is None:
            continue
        limit = MAX_BASE_NOISE
        if reference.made_noise is not None:
            limit = min(limit, TOLERANCE * max(MIN_NOISE, reference.made_noise))
        if distance(seen.base, reference.base) > limit:
            return f"its base model does not answer like the one of {reference.who}"
    return None


def _wrong_adapter(
    compared: Sequence[Comparison], rivals: Sequence[tuple[Rival, float]], seen: Observation
) -> str | None:
    for each in compared:
        unlikely = each.log_ratio is not None and each.log_ratio < MIN_LOG_RATIO
        if each.agrees and not unlikely:
            continue
        for rival, noise in rivals:
            if distance(seen.own, rival.answers) <= TOLERANCE * max(noise, each.noise) < each.distance:
                return f"it answers like {rival.label}"
        if each.agrees:
            return f"it answers more like {each.likelier_rival} than like {each.who}"
        return f"it does not answer like {each.who}"
    if compared:
        return None
    for rival, noise in rivals:
        if distance(seen.own, rival.answers) <= TOLERANCE * noise:
            return f"it answers like {rival.label}, and no reference says that it should"
    return None


def _weakness(compared: Sequence[Comparison], predecessor_unknown: str | None) -> str | None:
    if predecessor_unknown is not None:
        return f"the answers of its predecessor {predecessor_unknown} are not known"
    if any(each.strong for each in compared):
        return None
    independent = [each for each in compared if each.independent]
    if not independent:
        return "no reference was made elsewhere: it is compared with its own first answers"
    best = max(each.separation or 0.0 for each in independent)
    return f"its probes tell it apart by {best:.1f} times the noise; {STRONG:g} are wanted"
