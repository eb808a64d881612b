"""What is remembered between proofs: the fleet's answers in the store, one engine's own in this process."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from adapters.answers import Answers, digest_of_prompts
from gateway.core.refs import VersionRef
from gateway.store.attestations import Attestations, EngineAnswers, EngineAnswersKey

MAX_REMEMBERED = 512
"""Sets of answers that are kept of one engine: 4 KB each at six probes."""

Prompts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Pair:
    """What an adapter answered, and the base model beside it on the same engine."""

    own: Answers
    base: Answers


class EngineMemory:
    """What one engine said in one incarnation: base answers by prompts, adapters by digest and prompts.

    `cache_noise` is how far the base model's cached answers are from its fresh ones, in nats; None until
    that was measured. `batch_noise` is the most that its answers to the same prompts have been apart yet.
    """

    def __init__(self) -> None:
        self.cache_noise: float | None = None
        self.batch_noise = 0.0
        self._incarnation: str | None = None
        self._base: OrderedDict[Prompts, Answers] = OrderedDict()
        self._proved: OrderedDict[tuple[str, Prompts], Pair] = OrderedDict()
        self._names: dict[str, str] = {}

    def enter(self, incarnation: str) -> None:
        """Forget everything when this is another incarnation."""
        if incarnation != self._incarnation:
            self._incarnation = incarnation
            self.cache_noise = None
            self.batch_noise = 0.0
            self._base.clear()
            self._proved.clear()
            self._names.clear()

    def base(self, prompts: Prompts) -> Answers | None:
        """Return what the base model said first to these prompts."""
        return self._base.get(prompts)

    def keep_base(self, prompts: Prompts, answers: Answers) -> None:
        """Remember it, if it is the first time."""
        self._base.setdefault(prompts, answers)
        while len(self._base) > MAX_REMEMBERED:
            self._base.popitem(last=False)

    def proved(self, digest: str, prompts: Prompts) -> Pair | None:
        """Return what an adapter said when it was proved here first."""
        return self._proved.get((digest, prompts))

    def keep_proved(self, name: str, digest: str, prompts: Prompts, pair: Pair) -> None:
        """Remember that `name` is proved as `digest` here, and its first answers."""
        self._names[name] = digest
        self._proved.setdefault((digest, prompts), pair)
        while len(self._proved) > MAX_REMEMBERED:
            self._proved.popitem(last=False)

    def fail(self, name: str) -> None:
        """Remember that `name` is not what it should be."""
        self._names.pop(name, None)

    def holds(self, name: str, digest: str) -> bool:
        """Whether the last proof of `name` here passed, with this digest."""
        return self._names.get(name) == digest


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
        )
        kept = self._store.record(found, epoch=self._epoch)
        return (kept.replica, kept.incarnation) == (self.replica, incarnation)

    def _key(self, digest: str, prompts: Prompts) -> EngineAnswersKey:
        return EngineAnswersKey(digest, self._base_model, self._quantization, digest_of_prompts(prompts))
