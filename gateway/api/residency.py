"""An estimate of which adapters an engine holds in memory. An engine says what is registered, never this.

The model is the engine's own rule, least recently used, applied to what we know: an adapter was touched on a
replica when it was attested there, and, where it is at home, when it was last asked for. What was evicted and
read again meanwhile, and a standby's few requests, are not seen; so this is an estimate wherever it is shown.
"""

from collections.abc import Iterable, Mapping, Sequence

from gateway.api.placement_schemas import Standing
from gateway.core.refs import VersionRef
from gateway.store.fleet import RegistrationRow, ReplicaRow
from gateway.store.placement import Usage


def standing(
    replica: ReplicaRow,
    registrations: Iterable[RegistrationRow],
    homes: Mapping[VersionRef, Sequence[str]],
    usage: Mapping[VersionRef, Usage],
) -> tuple[Standing, ...]:
    """Return what stands on a replica's present incarnation, the last touched first."""
    rows = [
        row
        for row in registrations
        if row.replica == replica.id and row.incarnation == replica.incarnation and row.state != "failed"
    ]
    touched = {row.ref: _touched_at(row, homes, usage) for row in rows}
    order = sorted(rows, key=lambda row: (-touched[row.ref], row.ref))
    slots = replica.capacity.get("max_cpu_loras")
    return tuple(
        Standing(
            adapter=str(row.ref),
            state="attested" if row.state == "attested" else "registered",
            at=row.at,
            home=replica.id in homes.get(row.ref, ()),
            last_used_at=usage[row.ref].used_at if row.ref in usage else None,
            resident_estimate=None if slots is None else number < int(slots),
        )
        for number, row in enumerate(order)
    )


def _touched_at(
    row: RegistrationRow, homes: Mapping[VersionRef, Sequence[str]], usage: Mapping[VersionRef, Usage]
) -> float:
    at_home = row.replica in homes.get(row.ref, ()) or row.ref not in homes
    used_at = usage[row.ref].used_at if at_home and row.ref in usage else 0.0
    return max(row.at, used_at)
