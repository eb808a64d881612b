"""What the admin API shows of placement: what stands where, whose home it is, what is waited for."""

from typing import Literal

from gateway.api.adapter_schemas import AdapterUsage
from gateway.api.admin_schemas import Replica, Shown


class Standing(Shown):
    """A version on a replica. `home`: its traffic goes here; `at` is when it got this state.

    `resident_estimate` says whether it is in the engine's memory by our model of the engine's LRU: an
    estimate, since an engine does not tell; null while the engine's room is unknown.
    """

    adapter: str
    state: Literal["registered", "attested"]
    at: float
    home: bool
    last_used_at: float | None
    resident_estimate: bool | None


class VersionCounts(Shown):
    """How often a version was loaded because requests waited for it, and sent away to make room."""

    cold_loads: int
    evictions: int


class ColdWait(Shown):
    """A version that requests wait for now: since when, and why it can't be had, if that is known."""

    adapter: str
    since: float
    refusal: str | None


class ReplicaPage(Shown):
    """Every replica, and what placement does. `in_flight` are requests of the worker that answered.

    `standing` is by replica, `usage` (of those that stand; null while the requests' store is away) and
    `counts` are by version, and `waiting` are versions that stand nowhere.
    """

    data: tuple[Replica, ...]
    in_flight: dict[str, int]
    standing: dict[str, tuple[Standing, ...]]
    usage: dict[str, AdapterUsage] | None
    counts: dict[str, VersionCounts]
    waiting: tuple[ColdWait, ...]
