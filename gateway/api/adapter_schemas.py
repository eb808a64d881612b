"""The documents of `/admin/adapters`: what it takes and what it shows. Times are seconds since the epoch."""

from typing import Any, Literal

from pydantic import Field

from gateway.api.admin_schemas import Shown, Taken, Text

USAGE_WINDOW_S = 24 * 3600.0
"""What requests and tokens are counted over unless a time is given."""


class AdapterAdd(Taken):
    """A source whose adapter becomes the next version of `name`."""

    name: str
    source: str = Field(
        min_length=1,
        max_length=4096,
        description="an absolute path on the gateway's machine (a folder or a tar), s3://bucket/key, "
        "gs://bucket/key, https://host/file.tar.gz or hf://org/repo[@revision]",
    )
    why: Text | None = None


class Registration(Shown):
    """One version on one replica. `current` is false when it was another incarnation of the engine.

    `home`: the version's traffic goes here. `resident_estimate` is our guess whether it is in the engine's
    memory (see `Standing`); null where there is nothing to guess by.
    """

    replica: str
    state: Literal["registered", "attested", "failed"]
    current: bool
    incarnation: str
    reason: str | None
    figures: dict[str, Any] | None
    at: float
    home: bool = False
    resident_estimate: bool | None = None


class AdapterUsage(Shown):
    """What requests named or were routed to a version since a time; errors have status 400 and above."""

    since: float
    requests: int = 0
    errors: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Adapter(Shown):
    """One version: what it is, where it is registered and attested, and which routes name it.

    `state` is the best of its registrations on running engines, `stored` without any. `cold_loads` counts
    how often it was loaded because requests waited for it, `evictions` how often it made room for others.
    """

    adapter: str
    name: str
    version: int
    state: Literal["stored", "registered", "attested", "failed", "retired"]
    digest: str
    created_at: float
    retired_at: float | None
    rank: int
    size_bytes: int
    base: str
    source: str
    registrations: tuple[Registration, ...]
    routes: tuple[str, ...]
    usage: AdapterUsage
    cold_loads: int
    evictions: int


class AdapterDetail(Adapter):
    """One version with its whole manifest: lineage, evaluation and the reference for attestation."""

    manifest: dict[str, Any]


class Verify(Taken):
    """A wish for a proof. `anew`: forget what engines answered before, and record it again."""

    anew: bool = False
    why: Text | None = None


class Verification(Shown):
    """A wish that the controller will answer on these replicas: `asked` in a registration's figures."""

    adapter: str
    asked: int
    replicas: tuple[str, ...]


class AdapterPage(Shown):
    """A page of versions; `next_after` and `next_offset` are null on the last one."""

    data: tuple[Adapter, ...]
    limit: int
    offset: int
    next_offset: int | None
    next_after: str | None


class Blob(Shown):
    """One blob on this machine. `kept_because` is null for one that is removed."""

    digest: str
    size_bytes: int
    kept_because: str | None


class BlobPage(Shown):
    """Every blob of this machine; in a dry run nothing was removed."""

    dry_run: bool
    data: tuple[Blob, ...]
