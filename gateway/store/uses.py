"""Which routes use which versions, checked inside the transaction that changes either.

A route and the retirement of a version that it names exclude each other: each locks the version's row
before it looks (on SQLite, writers queue anyway), so that the second one sees what the first one did.
"""

import json
from collections.abc import Collection

from sqlalchemy import Connection, select

from gateway.core.refs import VersionRef
from gateway.core.stored import read_route
from gateway.store.schema import routes, versions


class VersionInUse(Exception):
    """Routes name the version, or traffic still meets it; `routes` are their names."""

    def __init__(self, ref: VersionRef, names: tuple[str, ...]) -> None:
        super().__init__(f"{ref} is used by {', '.join(names)}")
        self.routes = names


class VersionsNotActive(Exception):
    """Versions that a spec names do not exist, or are retired."""

    def __init__(self, unknown: tuple[VersionRef, ...], retired: tuple[VersionRef, ...]) -> None:
        super().__init__(f"unknown: {unknown}; retired: {retired}")
        self.unknown = unknown
        self.retired = retired


def require_active(connection: Connection, refs: Collection[VersionRef]) -> None:
    """Refuse a spec that names a version which is not there to be served.

    Raises:
        VersionsNotActive: one of them does not exist or is retired.
    """
    unknown, retired = [], []
    for ref in sorted(refs):
        row = connection.execute(
            select(versions.c.retired_at)
            .where(versions.c.name == ref.name, versions.c.version == ref.version)
            .with_for_update(read=True)
        ).one_or_none()
        if row is None:
            unknown.append(ref)
        elif row.retired_at is not None:
            retired.append(ref)
    if unknown or retired:
        raise VersionsNotActive(tuple(unknown), tuple(retired))


def require_unused(connection: Connection, ref: VersionRef) -> None:
    """Refuse to go on while a route's spec names `ref` or its traffic meets it.

    Raises:
        VersionInUse: one does.
    """
    named = []
    for row in connection.execute(select(routes).order_by(routes.c.name)):
        route = read_route(row.name, row.generation, row.spec, row.status)
        meets = {arm.adapter for arm in route.status.effective_arms}
        unread = f'"{ref}"' in json.dumps([row.spec, row.status]) if route.fault else False
        if ref in route.spec.versions() or str(ref) in meets or unread:
            named.append(row.name)
    if named:
        raise VersionInUse(ref, tuple(named))
