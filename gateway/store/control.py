"""The control store whole, and the snapshot of it that workers serve from."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select

from gateway.core.refs import VersionRef
from gateway.core.routes import Route
from gateway.store.attestations import Attestations
from gateway.store.curation import Curation
from gateway.store.database import Database
from gateway.store.drift import Drift
from gateway.store.epochs import Epochs
from gateway.store.events import Events
from gateway.store.feedback import Feedback
from gateway.store.findings import Findings
from gateway.store.fleet import Fleet, RegistrationRow, ReplicaRow
from gateway.store.golden import Golden
from gateway.store.holds import Holds
from gateway.store.keys import KeyRow, Keys
from gateway.store.limits import LimitStore
from gateway.store.lineage import Lineages
from gateway.store.loop import Loops
from gateway.store.placement import Placements
from gateway.store.routes import Routes
from gateway.store.schema import generations
from gateway.store.tombstones import Tombstones
from gateway.store.traffic import RatedTraffic
from gateway.store.versions import Versions
from gateway.store.watches import Watches

REPLICA_DIED = "replica.died"
"""The event of an engine that died under requests; `after` holds their fingerprints, and until when they are
refused: {"refused": […], "until": seconds since the epoch}."""

REFUSALS_LAST_S = 120.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that routing needs, read at one generation (or later: readers re-read on change)."""

    generation: int
    routes: tuple[Route, ...]
    versions: frozenset[VersionRef]
    replicas: tuple[ReplicaRow, ...]
    registrations: tuple[RegistrationRow, ...]
    keys: tuple[KeyRow, ...]
    refused: Mapping[str, float] = field(default_factory=dict)
    """Fingerprints of requests under which an engine died, and until when they are refused."""
    homes: Mapping[VersionRef, tuple[str, ...]] = field(default_factory=dict)
    """The replicas that get each version's traffic, as far as it is attested there."""
    limits: Mapping[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    """The limits of tenants and routes, by scope and name; keys bring their own."""


class ControlStore:
    """Every table of the control schema, one attribute a concern."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.versions = Versions(database)
        self.routes = Routes(database)
        self.events = Events(database)
        self.keys = Keys(database)
        self.feedback = Feedback(database)
        self.fleet = Fleet(database)
        self.attestations = Attestations(database)
        self.holds = Holds(database)
        self.drift = Drift(database)
        self.watches = Watches(database)
        self.rated = RatedTraffic(database)
        self.epochs = Epochs(database)
        self.findings = Findings(database)
        self.placement = Placements(database)
        self.limits = LimitStore(database)
        self.curation = Curation(database)
        self.golden = Golden(database)
        self.lineages = Lineages(database)
        self.tombstones = Tombstones(database)
        self.loops = Loops(database)

    def generation(self) -> int:
        """Return the present generation; 0 before the first change."""
        with self.database.read() as connection:
            return int(connection.execute(select(generations.c.value)).scalar_one_or_none() or 0)

    def snapshot(self) -> Snapshot:
        """Read what routing needs. The generation is read first, so a later change is never missed."""
        generation = self.generation()
        return Snapshot(
            generation=generation,
            routes=tuple(self.routes.rows()),
            versions=self.versions.active(),
            replicas=tuple(self.fleet.replicas()),
            registrations=tuple(self.fleet.registrations()),
            keys=tuple(self.keys.rows()),
            refused=self._refused(),
            homes=self.placement.homes(),
            limits=self.limits.documents(),
        )

    def _refused(self) -> dict[str, float]:
        now = time.time()
        deaths = self.events.newest(REPLICA_DIED, since=now - REFUSALS_LAST_S)
        return {
            fingerprint: float(event.after["until"])
            for event in deaths
            for fingerprint in event.after["refused"]
            if event.after["until"] > now
        }
