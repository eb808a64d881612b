"""The routing table: immutable, built from a snapshot of the store, swapped whole at a new generation."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from gateway.core.canary import CanaryStatus
from gateway.core.documents import Arm
from gateway.core.limits import LimitBook
from gateway.core.refs import BASE, VersionRef
from gateway.core.routes import Capture, Metric, Route, Shadow
from gateway.core.scopes import Scope
from gateway.routing.experiments import Lottery
from gateway.store.control import Snapshot
from gateway.store.fleet import RegistrationRow
from gateway.store.keys import KeyRow
from gateway.store.placement import NOWHERE

PROOFS = ("strong", "weak", "failed", "none")


class Draw(NamedTuple):
    """One arm as requests meet it: its label, its share, and its version (None: the base model)."""

    label: str
    share: float
    ref: VersionRef | None


@dataclass(frozen=True, slots=True)
class RouteEntry:
    """A route as requests meet it. `arms` is empty while the first version is being prepared.

    `lottery` draws among the arms; `draws` says what a request meets that drew an arm, in their order.
    """

    name: str
    arms: tuple[Arm, ...]
    sticky: str
    capture: Capture
    reason: str | None
    metrics: Mapping[str, Metric]
    shadow: Shadow | None = None
    salt: str = ""
    fallback: str | None = None
    lottery: Lottery = field(init=False, compare=False, repr=False)
    draws: tuple[Draw, ...] = field(init=False, compare=False, repr=False)
    captures: str = field(init=False, compare=False, repr=False)
    capture_share: float = field(init=False, compare=False, repr=False)
    redacts: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "lottery", Lottery(self.name, self.salt, self.arms))
        draws = tuple(Draw(arm.adapter, arm.share, VersionRef.parse(arm.adapter)) for arm in self.arms)
        object.__setattr__(self, "draws", draws)
        object.__setattr__(self, "captures", self.capture.mode)
        object.__setattr__(self, "capture_share", self.capture.share)
        object.__setattr__(self, "redacts", self.capture.redact)


@dataclass(frozen=True, slots=True)
class EngineFacts:
    """What is known of an engine beside its address: its incarnation, and where it sees the blobs.

    `quarantined`: it keeps failing and is left alone for a while.
    """

    incarnation: str | None
    adapter_root: str | None
    quarantined: bool = False


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Everything that resolving and leasing need, at one generation.

    `placement` maps a version's label (or `base`) to the ids of the healthy replicas that serve it;
    a version is there only when it is attested on that replica's present incarnation. `digests` holds the
    blob of each such version. `refused` are fingerprints of requests under which an engine died, with the
    time until which they are refused. `proofs` counts versions by replica and by how their proof went there:
    `strong`, `weak`, `failed`, or `none` while there is none. `changing` are the versions of routes whose
    spec was not in effect yet; when the table is `stale`, they are not served any more.
    `homes` maps a label to those of its replicas that its traffic goes to; a version that is absent there has
    no preference, and none has where no engine caches prefixes. `canaries` says of the routes that have had
    one how far it is. `keys_lapsed`: the store has been silent for so long that its keys do not count any
    more.
    """

    generation: int
    base_model: str
    routes: Mapping[str, RouteEntry]
    versions: frozenset[VersionRef]
    placement: Mapping[str, tuple[str, ...]]
    replica_urls: Mapping[str, str]
    keys: Mapping[str, KeyRow]
    engines: Mapping[str, EngineFacts] = field(default_factory=lambda: MappingProxyType({}))
    digests: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    refused: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    proofs: Mapping[tuple[str, str], int] = field(default_factory=lambda: MappingProxyType({}))
    homes: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    canaries: Mapping[str, CanaryStatus] = field(default_factory=lambda: MappingProxyType({}))
    limits: LimitBook = field(default_factory=LimitBook)
    changing: frozenset[str] = frozenset()
    stale: bool = False
    keys_lapsed: bool = False

    def model_names(self, scope: Scope | None = None) -> list[str]:
        """Return what a client may ask for, routes first, pinned versions after the base model."""
        if scope is None:
            pinned = sorted(str(ref) for ref in self.versions)
            return [*sorted(self.routes), self.base_model, *pinned]
        return [
            *sorted(name for name in self.routes if scope.route(name)),
            *([self.base_model] if scope.base else []),
            *sorted(str(ref) for ref in self.versions if scope.version(ref)),
        ]


def build(snapshot: Snapshot, *, base_model: str, default_capture: Capture) -> RoutingTable:
    """Build the table of a snapshot."""
    healthy = {row.id: row for row in snapshot.replicas if row.healthy}
    placement: dict[str, list[str]] = {BASE: sorted(healthy)}
    digests: dict[str, str] = {}
    proofs = {(row.id, proof): 0 for row in snapshot.replicas for proof in PROOFS}
    for row in snapshot.registrations:
        proofs[(row.replica, _proof(row))] = proofs.get((row.replica, _proof(row)), 0) + 1
        replica = healthy.get(row.replica)
        if replica is not None and row.state == "attested" and row.incarnation == replica.incarnation:
            digests[str(row.ref)] = row.digest
            if snapshot.homes.get(row.ref) != NOWHERE:
                placement.setdefault(str(row.ref), []).append(row.replica)
    return RoutingTable(
        generation=snapshot.generation,
        base_model=base_model,
        routes=MappingProxyType(_entries(snapshot.routes, default_capture)),
        versions=snapshot.versions,
        placement=MappingProxyType({label: tuple(sorted(ids)) for label, ids in placement.items()}),
        replica_urls=MappingProxyType({row.id: row.url for row in snapshot.replicas}),
        keys=MappingProxyType({row.id: row for row in snapshot.keys}),
        engines=MappingProxyType(
            {
                row.id: EngineFacts(
                    row.incarnation, row.adapter_root, quarantined=bool((row.quarantine or {}).get("until"))
                )
                for row in snapshot.replicas
            }
        ),
        digests=MappingProxyType(digests),
        refused=MappingProxyType(dict(snapshot.refused)),
        proofs=MappingProxyType(proofs),
        homes=MappingProxyType(_homes(snapshot, placement)),
        canaries=MappingProxyType(
            {route.name: canary for route in snapshot.routes if (canary := route.status.canary) is not None}
        ),
        limits=LimitBook.of(
            {**snapshot.limits, **{("key", row.id): row.limits for row in snapshot.keys if row.limits}}
        ),
        changing=frozenset(
            arm.adapter
            for route in snapshot.routes
            if route.status.active_generation != route.generation
            for arm in (*route.status.effective_arms, *route.spec.arms)
            if arm.adapter != BASE
        ),
    )


def _homes(snapshot: Snapshot, placement: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return the homes that serve. They are there for the prefixes that are cached in them, no more."""
    if snapshot.replicas and not any(row.capacity.get("prefix_caching", True) for row in snapshot.replicas):
        return {}
    return {
        label: here
        for ref, replicas in snapshot.homes.items()
        if (label := str(ref)) in placement and (here := tuple(r for r in replicas if r in placement[label]))
    }


def _entries(routes: Iterable[Route], default_capture: Capture) -> dict[str, RouteEntry]:
    plain = Capture()
    return {
        route.name: RouteEntry(
            name=route.name,
            arms=route.status.effective_arms,
            sticky=route.spec.sticky,
            capture=default_capture if route.spec.capture == plain else route.spec.capture,
            reason=route.status.reason,
            metrics=MappingProxyType(dict(route.spec.metrics)),
            shadow=route.spec.shadow,
            salt=route.status.salt,
            fallback=route.spec.fallback,
        )
        for route in routes
    }


def _proof(row: RegistrationRow) -> str:
    if row.state == "attested":
        return "weak" if (row.figures or {}).get("weak") else "strong"
    return "failed" if row.state == "failed" else "none"
