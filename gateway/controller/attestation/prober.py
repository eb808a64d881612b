"""Asks one engine the probes of a version, and finds the references to judge the answers by.

Probes ask for one token with the log-probabilities of the likeliest twenty, under a fresh salt: the adapter's
in one batch, then the base model's. One long probe is asked once more without a salt, the way traffic comes,
to catch a stale prefix cache. A proof belongs to (replica, incarnation, digest): the incarnation is read
before and after, and another one voids it.
"""

import time
import uuid
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from adapters.answers import TOP, Answers, distance
from adapters.manifest import Reference as Recorded
from gateway.controller.attestation.judge import Observation, Reference, Rival, Verdict, judge
from gateway.controller.attestation.memory import EngineMemory, FleetMemory, Pair, Prompts
from gateway.controller.attestation.proof import Proof, Subject
from gateway.controller.engine_api import EngineApi, EngineRefused, FirstTokens

GENERAL_PROMPTS = (
    "The capital of France is",
    "Question: What should I cook for dinner tonight?\nAnswer:",
    "Classify the text: I waited an hour and nobody came.\nLabel:",
    "Write the next line of the poem:\nThe night was long, the road was white,\n",
    "Summarize: the meeting moves to Thursday at ten.\nSummary:",
    'Extract the names as JSON: "Ada wrote to Charles."\n',
)
"""Probes for a version whose manifest brings none."""

_NUMBERS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
_BEYOND_BLOCK = 8


class IncarnationChanged(Exception):
    """The engine is no longer the process that was asked; nothing was proved."""


class Prober:
    """Proves versions on one engine. `quantization` is how the engine's base model is quantized, or None."""

    def __init__(
        self, api: EngineApi, fleet: FleetMemory, *, base_model: str, quantization: str | None
    ) -> None:
        self._api = api
        self._fleet = fleet
        self._base_model = base_model
        self._quantization = quantization
        self._memory = EngineMemory()

    async def prove(self, subject: Subject, *, incarnation: str) -> Proof:
        """Probe a version that is registered, judge the answers, and remember them when they pass.

        Raises:
            IncarnationChanged: the engine is not, or no longer, the one that `incarnation` names.
            EngineError: the engine refused the probes or could not be reached.
            LeaseLost: another controller is effective.
            StoreUnavailable: the store can't be read or written.
        """
        began = time.monotonic()
        prompts = prompts_of(subject.recorded)
        block = await self._expect(incarnation)
        self._memory.enter(incarnation)
        serves = self._memory.holds(subject.name, subject.digest)
        long = long_prompt(block)
        seen = await self._observe(subject.name, prompts)
        predecessor = await self._predecessor(subject, prompts, seen.base, incarnation)
        references = self._references(subject, prompts, incarnation)
        unknown = subject.predecessor.name if subject.predecessor and predecessor is None else None
        judged = partial(judge, subject.name, predecessor=predecessor, predecessor_unknown=unknown)
        verdict = judged(seen, references)
        # What the engine caches under wrong weights stays wrong when the weights are mended. So a version
        # that has served nobody is not asked without a salt until its answers are right.
        if serves or verdict.fault is None:
            seen = await self._with_cached(seen, subject.name, long)
            verdict = judged(seen, references)
        await self._expect(incarnation)
        if verdict.fault is None and not self._keep(subject, prompts, seen, verdict, incarnation):
            # Another replica's answers stand there: from just now, when two are proved side by side.
            verdict = judged(seen, self._references(subject, prompts, incarnation))
        if verdict.fault is None:
            pair = Pair(seen.own, seen.base)
            self._memory.keep_proved(subject.name, subject.digest, prompts, pair)
        else:
            self._memory.fail(subject.name)
        training = self._training(subject.recorded)
        return Proof(verdict, subject, training, len(prompts), time.monotonic() - began)

    async def _observe(self, name: str, prompts: Prompts) -> Observation:
        adapter = await self._ask(name, prompts)
        # Alone, not beside an adapter's: the CPU build would apply the adapter to it (decision 0002).
        base = await self._ask(self._base_model, prompts)
        before = self._memory.base(prompts)
        if before is None:
            # Which prompts share a step is the engine's affair, and some CPUs compute another batch another
            # way: what that does belongs to the noise. Alone is as far from a batch as it gets.
            alone = [await self._ask(self._base_model, (prompt,)) for prompt in prompts]
            before = tuple(each.tops[0] for each in alone)
        self._memory.keep_base(prompts, base.tops)
        self._memory.batch_noise = max(self._memory.batch_noise, distance(base.tops, before))
        return Observation(
            model=adapter.model,
            own=adapter.tops,
            base=base.tops,
            repeat_noise=self._memory.batch_noise,
        )

    async def _with_cached(self, seen: Observation, name: str, long: str) -> Observation:
        """Add what the engine says to the long prompt the way traffic comes, and what caching does to it.

        The latter is measured on the base model, whose weights do not change, once for an incarnation.
        """
        own = await self._ask(name, (long,))
        adapter = await self._ask(name, (long,), salted=False)
        noise = self._memory.cache_noise
        if noise is None:
            fresh = await self._ask(self._base_model, (long,))
            first = await self._ask(self._base_model, (long,), salted=False)
            again = await self._ask(self._base_model, (long,), salted=False)
            noise = max(distance(fresh.tops, first.tops), distance(fresh.tops, again.tops))
            self._memory.cache_noise = noise
        return replace(seen, fresh=own.tops, cached=adapter.tops, cache_noise=noise)

    def _keep(
        self, subject: Subject, prompts: Prompts, seen: Observation, verdict: Verdict, incarnation: str
    ) -> bool:
        compared = any(each.independent for each in verdict.comparisons)
        pair = Pair(seen.own, seen.base)
        return self._fleet.keep(subject.digest, prompts, pair, incarnation=incarnation, compared=compared)

    async def _predecessor(
        self, subject: Subject, prompts: Prompts, base: Answers, incarnation: str
    ) -> Rival | None:
        """Return what the version before answers to these prompts, from the nearest source that knows."""
        before, recorded = subject.predecessor, subject.recorded
        if before is None:
            return None
        label = f"its predecessor {before.name}"
        if (known := self._memory.proved(before.digest, prompts)) is not None:
            return Rival(label, known.own, known.base)
        if self._memory.holds(before.name, before.digest):
            try:
                asked = await self._ask(before.name, prompts)
            except EngineRefused:  # unregistered meanwhile
                asked = None
            if asked is not None and asked.model == before.name:
                pair = Pair(asked.tops, base)
                self._memory.keep_proved(before.name, before.digest, prompts, pair)
                self._fleet.keep(before.digest, prompts, pair, incarnation=incarnation, compared=False)
                return Rival(label, pair.own, pair.base)
        if (found := self._fleet.find(before.digest, prompts)) is not None:
            return Rival(label, found.own, found.base)
        if recorded is None or recorded.predecessor != before.digest or not self._comparable(recorded):
            return None
        theirs = _whole([probe.predecessor for probe in recorded.probes])
        bases = _whole([probe.base for probe in recorded.probes])
        return Rival(label, theirs, bases) if theirs else None

    def _references(self, subject: Subject, prompts: Prompts, incarnation: str) -> list[Reference]:
        """Return everything that these answers can be compared with."""
        found: list[Reference] = []
        recorded = subject.recorded
        if recorded is not None and self._comparable(recorded):
            found.append(
                Reference(
                    "training",
                    "the adapter that was trained",
                    tuple(probe.top_logprobs for probe in recorded.probes),
                    _whole([probe.base for probe in recorded.probes]),
                    made_noise=recorded.noise,
                )
            )
        if (fleet := self._fleet.find(subject.digest, prompts)) is not None:
            elsewhere = (fleet.replica, fleet.incarnation) != (self._fleet.replica, incarnation)
            found.append(
                Reference(
                    "fleet",
                    f"{fleet.replica}, where it was attested first",
                    fleet.own,
                    fleet.base,
                    independent=elsewhere or fleet.compared,
                )
            )
        if (before := self._memory.proved(subject.digest, prompts)) is not None:
            found.append(
                Reference(
                    "itself", "itself when it was attested here", before.own, before.base, independent=False
                )
            )
        return found

    def _comparable(self, recorded: Recorded) -> bool:
        return comparable(recorded, self._quantization)

    def _training(self, recorded: Recorded | None) -> str:
        if recorded is None:
            return "none"
        return "compared" if self._comparable(recorded) else f"made on {recorded.quantization}"

    async def _ask(self, model: str, prompts: Prompts, *, salted: bool = True) -> FirstTokens:
        # A fresh salt: blocks cached under this name may hold the answers of other weights.
        salt = uuid.uuid4().hex if salted else None
        return await self._api.first_tokens(model, prompts, count=TOP, cache_salt=salt)

    async def _expect(self, incarnation: str) -> int:
        """Return the tokens of a block of the prefix cache."""
        present = await self._api.identity()
        if present.incarnation != incarnation:
            raise IncarnationChanged(
                f"the engine restarted: incarnation {present.incarnation}, not {incarnation}"
            )
        return present.block_tokens


def prompts_of(recorded: Recorded | None) -> Prompts:
    """Return the probes of a manifest's reference, or the general ones."""
    return tuple(probe.prompt for probe in recorded.probes) if recorded else GENERAL_PROMPTS


def comparable(recorded: Recorded, quantization: str | None) -> bool:
    """Whether a reference (say `bitsandbytes-nf4`) was made on a base quantized like the engines'."""
    return recorded.quantization.partition("-")[0] == (quantization or "none")


def long_prompt(block_tokens: int) -> str:
    """Return a text of a few tokens more than one block of the prefix cache, whatever the tokenizer."""
    count = block_tokens + _BEYOND_BLOCK
    return " ".join(_NUMBERS[place % len(_NUMBERS)] for place in range(count))


def _whole(answers: list[dict[str, float] | None]) -> tuple[Mapping[str, float], ...] | None:
    known = tuple(answer for answer in answers if answer is not None)
    return known if len(known) == len(answers) else None
