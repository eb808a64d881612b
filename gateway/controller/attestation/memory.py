"""What is remembered between proofs: the fleet's answers in the store, one engine's own in this process."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from adapters.answers import MIN_NOISE, Answers, digest_of_prompts, distance
from gateway.controller.attestation.asking import Heard
from gateway.core.refs import VersionRef
from gateway.store.attestations import Attestations, EngineAnswers, EngineAnswersKey

MAX_REMEMBERED = 512
"""Sets of answers that are kept of one engine: 4 KB each at six probes."""

MEASURED = 3
"""With so many sets of prompts an engine's noise is measured; later ones are asked of the base model once."""

Prompts = tuple[str, ...]
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Pair:
    """What an adapter and the base model answered on one engine, and the noise of that, in nats."""

    own: Answers
    base: Answers
    noise: float


class EngineMemory:
    """What one engine said in one incarnation: base answers by prompts, adapters by digest and prompts.

    Its noise is kept twice: of calls while nothing else ran there, which repeat themselves nearly to the
    last digit, and of calls that shared batches with other requests.
    """

    def __init__(self) -> None:
        self._incarnation: str | None = None
        self._quiet_noise = 0.0
        self._busy_noise = 0.0
        self._quiet_sets = 0
        self._alone_sets = 0
        self._base: OrderedDict[Prompts, Heard] = OrderedDict()
        self._long: OrderedDict[str, tuple[Answers, ...]] = OrderedDict()
        self._proved: OrderedDict[tuple[str, Prompts], Pair] = OrderedDict()
        self._names: dict[str, str] = {}

    def enter(self, incarnation: str) -> None:
        """Forget everything when this is another incarnation."""
        if incarnation != self._incarnation:
            self._incarnation = incarnation
            self._quiet_noise = self._busy_noise = 0.0
            self._quiet_sets = self._alone_sets = 0
            self._base.clear()
            self._long.clear()
            self._proved.clear()
            self._names.clear()

    def noise(self, *, quiet: bool) -> float:
        """Return how far two answers to the same prompts are apart at most, in nats."""
        if quiet and self._quiet_sets:
            return max(MIN_NOISE, self._quiet_noise)
        return max(MIN_NOISE, self._quiet_noise, self._busy_noise)

    @property
    def wants_again(self) -> bool:
        """Whether the base model is to be asked a second time, to measure what a quiet engine differs by."""
        return self._quiet_sets < MEASURED

    @property
    def wants_alone(self) -> bool:
        """Whether it is to be asked prompt by prompt, which is as far from a batch as it gets."""
        return self._alone_sets < MEASURED

    def base(self, prompts: Prompts) -> Heard | None:
        """Return what the base model said to these prompts, while the engine was quiet if it ever was."""
        return self._base.get(prompts)

    def keep_base(self, prompts: Prompts, first: Heard, again: Heard | None, alone: Answers | None) -> None:
        """Remember what the base model said, in a batch, in a second one and alone, and how noisy that is."""
        known = self._base.get(prompts)
        others = [each.tops for each in (again, known) if each is not None]
        others += [alone] if alone is not None else []
        self._busy_noise = max([self._busy_noise, *(distance(first.tops, each) for each in others)])
        self._alone_sets += alone is not None
        if first.quiet and again is not None and again.quiet:
            self._quiet_noise = max(self._quiet_noise, distance(first.tops, again.tops))
            self._quiet_sets += 1
        if known is None or first.quiet:
            _put(self._base, prompts, first)

    def right(self, digest: str) -> tuple[Answers, ...]:
        """Return what this adapter may say to the long prompt here: computed anew, and from its own cache."""
        return self._long.get(digest, ())

    def keep_right(self, digest: str, answers: tuple[Answers, ...]) -> None:
        """Remember it."""
        _put(self._long, digest, answers)

    def proved(self, digest: str, prompts: Prompts) -> Pair | None:
        """Return what an adapter said when it was proved here first."""
        return self._proved.get((digest, prompts))

    def keep_proved(self, name: str, digest: str, prompts: Prompts, pair: Pair) -> None:
        """Remember that `name` is proved as `digest` here, and its first answers, or the first quiet ones."""
        self._names[name] = digest
        known = self._proved.get((digest, prompts))
        if known is None or pair.noise <= known.noise / 2:
            _put(self._proved, (digest, prompts), pair)

    def fail(self, name: str) -> None:
        """Remember that `name` is not what it should be."""
        self._names.pop(name, None)

    def holds(self, name: str, digest: str) -> bool:
        """Whether the last proof of `name` here passed, with this digest."""
        return self._names.get(name) == digest


def _put(kept: OrderedDict[K, V], key: K, value: V) -> None:
    kept[key] = value
    while len(kept) > MAX_REMEMBERED:
        kept.popitem(last=False)


class Wishes:
    """Who wants which version proved now. Read again only when something has changed."""

    def __init__(self, store: Attestations) -> None:
        self._store = store
        self._generation = -1
        self._asked: dict[VersionRef, int] = {}

    def read(self, generation: int) -> Mapping[VersionRef, int]:
        """Return the number of the latest wish by version, as of this generation or later.

        Raises:
            StoreUnavailable: the store can't be read.
        """
        if generation != self._generation:
            self._asked = self._store.asked()
            self._generation = generation
        return self._asked


class FleetMemory:
    """The fleet's answers, for one replica under one epoch of the controller's lease."""

    def __init__(
        self, store: Attestations, *, replica: str, epoch: int, base_model: str, quantization: str | None
    ) -> None:
        self.replica = replica
        self._store = store
        self._epoch = epoch
        self._base_model = base_model
        self._quantization = quantization or "none"

    def find(self, digest: str, prompts: Prompts) -> EngineAnswers | None:
        """Return what the first attested engine answered with this digest, or None.

        Raises:
            StoreUnavailable: the store can't be read.
        """
        return self._store.answers(self._key(digest, prompts))

    def keep(self, digest: str, prompts: Prompts, pair: Pair, *, incarnation: str, compared: bool) -> bool:
        """Record what this replica answered, unless better is known. `compared`: it agreed with a reference.

        Returns whether the fleet's answers are this engine's now.

        Raises:
            LeaseLost: another controller is effective.
            StoreUnavailable: the store can't be written.
        """
        found = EngineAnswers(
            self._key(digest, prompts),
            own=tuple(dict(answer) for answer in pair.own),
            base=tuple(dict(answer) for answer in pair.base),
            replica=self.replica,
            incarnation=incarnation,
            compared=compared,
            noise=pair.noise,
        )
        kept = self._store.record(found, epoch=self._epoch)
        return (kept.replica, kept.incarnation) == (self.replica, incarnation)

    def _key(self, digest: str, prompts: Prompts) -> EngineAnswersKey:
        return EngineAnswersKey(digest, self._base_model, self._quantization, digest_of_prompts(prompts))
