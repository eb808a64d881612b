"""Asks one engine the probes of a version, and finds the references to judge the answers by.

Probes ask for one token with the log-probabilities of the likeliest twenty, under a fresh salt: the adapter's
in one batch, then the base model's, once. One long probe is asked without a salt, the way traffic comes, to
catch a stale prefix cache. A proof belongs to (replica, incarnation, digest): the incarnation is read
before and after, and another one voids it.
"""

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

from adapters.answers import Answers, distance
from adapters.manifest import Reference as Recorded
from gateway.controller.attestation.asking import Asker, Heard, new_salt
from gateway.controller.attestation.judge import Observation, Reference, Rival, Verdict, judge, stale
from gateway.controller.attestation.memory import EngineMemory, FleetMemory, Pair, Prompts
from gateway.controller.attestation.proof import Proof, Subject
from gateway.controller.engine_api import EngineApi, EngineRefused
from gateway.store.attestations import EngineAnswers

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


class Prober:
    """Proves versions on one engine. `quantization` is how the engine's base model is quantized, or None."""

    def __init__(
        self, api: EngineApi, fleet: FleetMemory, *, base_model: str, quantization: str | None
    ) -> None:
        self._ask = Asker(api, base_model=base_model)
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
        look = await self._ask.look(incarnation)
        self._memory.enter(incarnation)
        serves = self._memory.holds(subject.name, subject.digest)
        seen, quiet = await self._observe(subject.name, prompts)
        predecessor = await self._predecessor(subject, prompts, seen.base, incarnation)
        references = self._references(subject, prompts, incarnation)
        unknown = subject.predecessor.name if subject.predecessor and predecessor is None else None
        judged = partial(judge, subject.name, predecessor=predecessor, predecessor_unknown=unknown)
        verdict = judged(seen, references)
        # What the engine caches under wrong weights stays wrong when the weights are mended. So a version
        # that has served nobody is not asked without a salt until its answers are right.
        if look.caches_prefixes and verdict.fault is None:
            seen = await self._with_cached(seen, subject, look.block_tokens)
            verdict = judged(seen, references)
        elif look.caches_prefixes and serves:
            await self._ask.one(subject.name, long_prompt(look.block_tokens, prompts), salt=None)
        await self._ask.look(incarnation)
        if verdict.fault is None and not self._keep(subject, prompts, seen, verdict, incarnation):
            # Another replica's answers stand there: from just now, when two are proved side by side.
            verdict = judged(seen, self._references(subject, prompts, incarnation))
        if verdict.fault is None:
            pair = Pair(seen.own, seen.base, seen.repeat_noise)
            self._memory.keep_proved(subject.name, subject.digest, prompts, pair)
            self._memory.keep_right(subject.digest, seen.right)
        else:
            self._memory.fail(subject.name)
        training = self._training(subject.recorded)
        return Proof(verdict, subject, training, len(prompts), time.monotonic() - began, quiet)

    async def _observe(self, name: str, prompts: Prompts) -> tuple[Observation, bool]:
        """Return what the adapter and the base model say, and whether the engine was quiet."""
        adapter = await self._ask.together(name, prompts)
        base = await self._base_answers(prompts, quiet=adapter.quiet)
        quiet = adapter.quiet and base.quiet
        noise = self._memory.noise(quiet=quiet)
        return Observation(adapter.model, own=adapter.tops, base=base.tops, repeat_noise=noise), quiet

    async def _base_answers(self, prompts: Prompts, *, quiet: bool) -> Heard:
        """Return what the base model says; its weights don't change, so it is asked once, and once in quiet.

        Alone, not beside an adapter's: the CPU build would apply the adapter to it (decision 0002).
        """
        known = self._memory.base(prompts)
        if known is not None and (known.quiet or not quiet):
            return known
        first = await self._ask.together(self._base_model, prompts)
        again = None
        if first.quiet and self._memory.wants_again:
            again = await self._ask.together(self._base_model, prompts)
        alone = None
        if self._memory.wants_alone:
            # Which prompts share a step is the engine's affair, and some hardware computes another batch in
            # another way: what that does is the noise of a busy engine.
            each = [await self._ask.one(self._base_model, prompt, salt=new_salt()) for prompt in prompts]
            alone = tuple(one.tops[0] for one in each)
        self._memory.keep_base(prompts, first, again, alone)
        return first

    async def _with_cached(self, seen: Observation, subject: Subject, block_tokens: int) -> Observation:
        """Add what the engine says to the long prompt the way traffic comes, and what it may say.

        That is what it computes anew, or what these weights have cached, which some hardware rounds in
        another way, by what shared the step. So when it is something else, the prompt is asked twice under a
        new salt, and then among the probes, to see what the version's own cache makes of it.
        """
        prompts = prompts_of(subject.recorded)
        long = long_prompt(block_tokens, prompts)
        right, quiet = self._memory.right(subject.digest), True
        if not right:
            fresh = await self._ask.one(subject.name, long, salt=new_salt())
            right, quiet = (fresh.tops,), fresh.quiet
        cached = await self._ask.one(subject.name, long, salt=None)
        noise = self._memory.noise(quiet=quiet and cached.quiet)
        found = replace(seen, right=right, cached=cached.tops, cached_noise=noise)
        if not stale(found):
            return found
        # Anew: what is remembered may be from a busy engine, or of the same weights under another name.
        salt = new_salt()
        fresh = await self._ask.one(subject.name, long, salt=salt)
        own = [await self._ask.one(subject.name, long, salt=salt)]
        noise = max(noise, *(self._memory.noise(quiet=each.quiet) for each in (fresh, *own)))
        found = replace(found, right=(fresh.tops, own[0].tops), cached_noise=noise)
        for company in ((long, *prompts), (prompts[0], long, *prompts[1:])):
            if not stale(found):
                break
            salt = new_salt()
            await self._ask.fill(subject.name, company, salt=salt)
            own.append(await self._ask.one(subject.name, long, salt=salt))
            # What company does to the blocks that are cached beside it is noise as well.
            apart = distance(own[0].tops, own[-1].tops)
            noise = max(noise, self._memory.noise(quiet=own[-1].quiet), apart)
            found = replace(found, right=(*found.right, own[-1].tops), cached_noise=noise)
        return found

    def _keep(
        self, subject: Subject, prompts: Prompts, seen: Observation, verdict: Verdict, incarnation: str
    ) -> bool:
        compared = any(each.independent for each in verdict.comparisons)
        pair = Pair(seen.own, seen.base, seen.repeat_noise)
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
            return Rival(label, known.own, known.base, known.noise)
        if self._memory.holds(before.name, before.digest):
            try:
                asked = await self._ask.together(before.name, prompts)
            except EngineRefused:  # unregistered meanwhile
                asked = None
            if asked is not None and asked.model == before.name:
                pair = Pair(asked.tops, base, self._memory.noise(quiet=asked.quiet))
                self._memory.keep_proved(before.name, before.digest, prompts, pair)
                self._fleet.keep(before.digest, prompts, pair, incarnation=incarnation, compared=False)
                return Rival(label, pair.own, pair.base, pair.noise)
        if (found := self._fleet.find(before.digest, prompts)) is not None:
            return Rival(label, found.own, found.base, self._noise_of(found))
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
                    repeat_noise=self._noise_of(fleet),
                )
            )
        if (before := self._memory.proved(subject.digest, prompts)) is not None:
            found.append(
                Reference(
                    "itself",
                    "itself when it was attested here",
                    before.own,
                    before.base,
                    independent=False,
                    repeat_noise=before.noise,
                )
            )
        return found

    def _noise_of(self, found: EngineAnswers) -> float:
        return self._memory.noise(quiet=False) if found.noise is None else found.noise

    def _comparable(self, recorded: Recorded) -> bool:
        return comparable(recorded, self._quantization)

    def _training(self, recorded: Recorded | None) -> str:
        if recorded is None:
            return "none"
        return "compared" if self._comparable(recorded) else f"made on {recorded.quantization}"


def prompts_of(recorded: Recorded | None) -> Prompts:
    """Return the probes of a manifest's reference, or the general ones."""
    return tuple(probe.prompt for probe in recorded.probes) if recorded else GENERAL_PROMPTS


def comparable(recorded: Recorded, quantization: str | None) -> bool:
    """Whether a reference (say `bitsandbytes-nf4`) was made on a base quantized like the engines'."""
    return recorded.quantization.partition("-")[0] == (quantization or "none")


def long_prompt(block_tokens: int, prompts: Prompts) -> str:
    """Return the first of the probes behind a block of the prefix cache, whatever the tokenizer.

    A probe at the end shows what is wrong with a block before it three times better than more of the same.
    """
    block = " ".join(_NUMBERS[place % len(_NUMBERS)] for place in range(block_tokens))
    return f"{block} {prompts[0]}"


def _whole(answers: list[dict[str, float] | None]) -> tuple[Mapping[str, float], ...] | None:
    known = tuple(answer for answer in answers if answer is not None)
    return known if len(known) == len(answers) else None
