"""Proof that a replica answers with an adapter: unlike the base model, and like what training recorded.

Probes ask for one token with the log-probabilities of the likeliest twenty, first of the adapter, then of the
base model, on the same engine. A proof belongs to (replica, incarnation, digest): the incarnation is read
before and after, and another one voids it.
"""

import time
import uuid
from dataclasses import dataclass
from statistics import fmean

from adapters.manifest import Reference
from gateway.controller.engine_api import EngineApi, FirstTokens

TOP = 20

MIN_DISTANCE_TO_BASE = 0.02
"""Nats. The CPU engine repeats itself exactly (0.000), a retrained neighbour of an adapter is 0.19 and more
away, and an adapter is 3.9 and more from its base. Small, so that a weak adapter is not refused."""

NOISE_FACTOR = 3.0
"""An engine that does not repeat itself raises the floor to so many times the distance of the base model from
itself. Measured anew with every proof, since it depends on the hardware and on what else is in the batch."""

MAX_DISTANCE_TO_REFERENCE = 0.3
"""Nats. PEFT on the same quantized base was 0.03 to 0.05 from the engine on average and 0.16 at most; the
wrong adapter, or a base quantized in another way, was 0.6 and more."""

GENERAL_PROMPTS = (
    "The capital of France is",
    "Question: What should I cook for dinner tonight?\nAnswer:",
    "Classify the text: I waited an hour and nobody came.\nLabel:",
    "Write the next line of the poem:\nThe night was long, the road was white,\n",
)
"""Probes for an adapter that brings no reference."""


MAX_REMEMBERED = 256
"""Sets of prompts whose base answers are kept for one incarnation."""


class IncarnationChanged(Exception):
    """The engine is no longer the process that was asked; nothing was proved."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What the probes found. `fault` is None when the adapter is proved. Distances are in nats.

    `noise` is the distance of the base model from itself. `reference` says whether there was one to compare
    with: `compared`, `none`, or on what it was made.
    """

    distance_to_base: float | None
    noise: float | None
    distance_to_reference: float | None
    reference: str
    probes: int
    seconds: float
    fault: str | None

    def figures(self) -> dict[str, float | int | str | None]:
        """Return the figures as they are stored."""
        return {
            "distance_to_base": _rounded(self.distance_to_base),
            "noise": _rounded(self.noise),
            "distance_to_reference": _rounded(self.distance_to_reference),
            "reference": self.reference,
            "probes": self.probes,
            "seconds": round(self.seconds, 3),
        }


class Prober:
    """Proves adapters on one engine. `quantization` is how the engine's base model is quantized, or None."""

    def __init__(self, api: EngineApi, *, base_model: str, quantization: str | None) -> None:
        self._api = api
        self._base_model = base_model
        self._quantization = quantization
        self._incarnation: str | None = None
        self._base_before: dict[tuple[str, ...], FirstTokens] = {}

    async def prove(self, name: str, *, incarnation: str, reference: Reference | None) -> Proof:
        """Probe the adapter `name` and judge the answers.

        A reference that was made on a base quantized in another way gives the prompts, but its
        log-probabilities are not compared: they would be off by more than the tolerance.

        Raises:
            IncarnationChanged: the engine is not, or no longer, the one that `incarnation` names.
            EngineError: the engine refused the probes or could not be reached.
        """
        began = time.monotonic()
        prompts = tuple(probe.prompt for probe in reference.probes) if reference else GENERAL_PROMPTS
        await self._expect(incarnation)
        adapter = await self._ask(name, prompts)
        base, noise = await self._base(prompts, incarnation)
        await self._expect(incarnation)
        compared = reference if reference and comparable(reference, self._quantization) else None
        to_base = distance_to_base(adapter, base)
        to_reference = distance_to_reference(adapter, compared) if compared else None
        fault = judge(to_base, noise, to_reference)
        if adapter.model != name:
            fault = f"the engine answered as {adapter.model!r} when asked for {name!r}"
        return Proof(
            distance_to_base=to_base,
            noise=noise,
            distance_to_reference=to_reference,
            reference="compared"
            if compared
            else f"made on {reference.quantization}"
            if reference
            else "none",
            probes=len(prompts),
            seconds=time.monotonic() - began,
            fault=fault,
        )

    async def _base(self, prompts: tuple[str, ...], incarnation: str) -> tuple[FirstTokens, float]:
        """Ask the base model, and return how far it is from what it said before to the same prompts."""
        if self._incarnation != incarnation or len(self._base_before) >= MAX_REMEMBERED:
            self._incarnation, self._base_before = incarnation, {}
        before = self._base_before.get(prompts) or await self._ask(self._base_model, prompts)
        self._base_before[prompts] = before
        now = await self._ask(self._base_model, prompts)
        return now, distance_to_base(now, before)

    async def _ask(self, model: str, prompts: tuple[str, ...]) -> FirstTokens:
        # A fresh salt: blocks cached under this name may hold the answers of other weights.
        return await self._api.first_tokens(model, prompts, count=TOP, cache_salt=uuid.uuid4().hex)

    async def _expect(self, incarnation: str) -> None:
        present = await self._api.incarnation()
        if present != incarnation:
            raise IncarnationChanged(f"the engine restarted: incarnation {present}, not {incarnation}")


def comparable(reference: Reference, quantization: str | None) -> bool:
    """Whether a reference (say `bitsandbytes-nf4`) was made on a base quantized like the engines'."""
    return reference.quantization.partition("-")[0] == (quantization or "none")


def judge(to_base: float, noise: float, to_reference: float | None) -> str | None:
    """Return what is wrong with these distances, or None. The text is the same for the same fault."""
    if to_base <= max(MIN_DISTANCE_TO_BASE, NOISE_FACTOR * noise):
        return "it answers like the base model"
    if to_reference is not None and to_reference >= MAX_DISTANCE_TO_REFERENCE:
        return "it does not answer like the adapter that was trained"
    return None


def distance_to_base(adapter: FirstTokens, base: FirstTokens) -> float:
    """Return the mean over probes of the largest log-probability difference among shared top tokens."""
    return fmean(
        _largest_difference(ours, theirs) for ours, theirs in zip(adapter.tops, base.tops, strict=True)
    )


def distance_to_reference(adapter: FirstTokens, reference: Reference) -> float:
    """Return the mean over probes of the log-probability difference of the reference's first token."""
    return fmean(
        _first_token_difference(probe.top_logprobs, top)
        for probe, top in zip(reference.probes, adapter.tops, strict=True)
    )


def _largest_difference(ours: dict[str, float], theirs: dict[str, float]) -> float:
    shared = ours.keys() & theirs.keys()
    if shared:
        return max(abs(ours[token] - theirs[token]) for token in shared)
    # Nothing in common: each one's favourite is, for the other, at most as likely as its last listed token.
    return max(0.0, max(ours.values()) - min(theirs.values()), max(theirs.values()) - min(ours.values()))


def _first_token_difference(reference: dict[str, float], top: dict[str, float]) -> float:
    first = max(reference, key=lambda token: reference[token])
    known = top.get(first)
    if known is not None:
        return abs(reference[first] - known)
    # Not among the engine's likeliest: it is at most as likely as the last of them.
    return max(0.0, reference[first] - min(top.values()))


def _rounded(distance: float | None) -> float | None:
    return None if distance is None else round(distance, 4)
