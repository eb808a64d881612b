"""API keys, as keyed hashes. The key itself is never stored."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, insert, select, update

from gateway.core.requests import Role
from gateway.store import events
from gateway.store.database import Database
from gateway.store.schema import keys


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key: its public id, the keyed hash (hex HMAC-SHA-256), and what it may do."""

    id: str
    hash: str
    label: str
    tenant: str
    roles: frozenset[Role]
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def valid(self, now: float) -> bool:
        """Whether the key may be used at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class Keys:
    """The keys table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: KeyRow, *, actor: str) -> None:
        """Store a new key."""
        with self._database.write() as connection:
            connection.execute(
                insert(keys).values(
                    id=row.id,
                    hash=row.hash,
                    label=row.label,
                    tenant=row.tenant,
                    roles=sorted(row.roles),
                    created_at=row.created_at,
                    expires_at=row.expires_at,
                    revoked_at=row.revoked_at,
                )
            )
            events.record(
                connection,
                actor=actor,
                action="key.create",
                subject=row.id,
                after={"label": row.label, "tenant": row.tenant, "roles": sorted(row.roles)},
            )

    def rows(self) -> list[KeyRow]:
        """Return every key, oldest first."""
        with self._database.read() as connection:
            return [_row(row) for row in connection.execute(select(keys).order_by(keys.c.created_at))]

    def count(self) -> int:
        """Return how many keys were ever made."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(keys)).scalar_one())

    def revoke(self, key_id: str, *, actor: str, why: str | None = None) -> bool:
        """Revoke a key; False when there is no such valid key."""
        with self._database.write() as connection:
            done = connection.execute(
                update(keys)
                .where(keys.c.id == key_id, keys.c.revoked_at.is_(None))
                .values(revoked_at=time.time())
            )
            if done.rowcount == 0:
                return False
            events.record(connection, actor=actor, action="key.revoke", subject=key_id, why=why)
            return True


def _row(row: Any) -> KeyRow:
    return KeyRow(
        id=row.id,
        hash=row.hash,
        label=row.label,
        tenant=row.tenant,
        roles=frozenset(Role(role) for role in row.roles),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
    )
