"""API keys, as keyed hashes. The key itself is never stored."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, insert, select, update

from gateway.core.requests import Role
from gateway.store import events
from gateway.store.database import Database
from gateway.store.schema import keys

_ROLES = {role.value: role for role in Role}


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key: its public id, the keyed hash (hex HMAC-SHA-256), and what it may do.

    `models` are the patterns of what it may use, None for everything; `pepper` is the public id of the pepper
    that `hash` was made with. After a rotation the text of before is good until `previous_until`.
    `limits` are the key's own (`gateway.core.limits`).
    """

    id: str
    hash: str
    label: str
    tenant: str
    roles: frozenset[Role]
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    models: tuple[str, ...] | None = None
    limits: Mapping[str, Any] | None = None
    pepper: str | None = None
    rotated_at: float | None = None
    previous_hash: str | None = None
    previous_pepper: str | None = None
    previous_until: float | None = None

    def valid(self, now: float) -> bool:
        """Whether the key may be used at `now`."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)

    def rotating(self, now: float) -> bool:
        """Whether the text of before the last rotation is still good."""
        return self.previous_until is not None and now < self.previous_until and self.valid(now)


class NotRotated(Exception):
    """A key is not there any more as it was read: it was changed meanwhile."""


class Keys:
    """The keys table."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, row: KeyRow, *, actor: str, why: str | None = None) -> None:
        """Store a new key."""
        with self._database.write() as connection:
            connection.execute(insert(keys).values(_values(row)))
            events.record(
                connection,
                actor=actor,
                action="key.create",
                subject=row.id,
                why=why,
                after=_document(row),
            )

    def rows(self) -> list[KeyRow]:
        """Return every key, oldest first."""
        with self._database.read() as connection:
            return [
                _row(row) for row in connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id))
            ]

    def get(self, key_id: str) -> KeyRow | None:
        """Return one key."""
        with self._database.read() as connection:
            return _get(connection, key_id)

    def count(self) -> int:
        """Return how many keys were ever made."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(keys)).scalar_one())

    def rotate(self, before: KeyRow, after: KeyRow, *, actor: str, why: str | None = None) -> None:
        """Put `after`, the same key with another text, in the place of `before`.

        Raises:
            NotRotated: the key has been rotated, revoked or changed since `before` was read.
        """
        with self._database.write() as connection:
            if _get(connection, before.id) != before:
                raise NotRotated(before.id)
            connection.execute(update(keys).where(keys.c.id == before.id).values(_values(after)))
            events.record(
                connection,
                actor=actor,
                action="key.rotate",
                subject=before.id,
                why=why,
                before=_document(before),
                after=_document(after),
            )

    def revoke(self, key_id: str, *, actor: str, why: str | None = None) -> bool:
        """Revoke a key; False when there is no such valid key."""
        with self._database.write() as connection:
            before = _get(connection, key_id)
            if before is None or before.revoked_at is not None:
                return False
            after = replace(before, revoked_at=time.time())
            connection.execute(update(keys).where(keys.c.id == key_id).values(revoked_at=after.revoked_at))
            events.record(
                connection,
                actor=actor,
                action="key.revoke",
                subject=key_id,
                why=why,
                before=_document(before),
                after=_document(after),
            )
            return True


def _get(connection: Connection, key_id: str) -> KeyRow | None:
    row = connection.execute(select(keys).where(keys.c.id == key_id)).one_or_none()
    return None if row is None else _row(row)


def _values(row: KeyRow) -> dict[str, Any]:
    return {
        "id": row.id,
        "hash": row.hash,
        "label": row.label,
        "tenant": row.tenant,
        "roles": sorted(row.roles),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "models": None if row.models is None else list(row.models),
        "limits": None if row.limits is None else dict(row.limits),
        "pepper": row.pepper,
        "rotated_at": row.rotated_at,
        "previous_hash": row.previous_hash,
        "previous_pepper": row.previous_pepper,
        "previous_until": row.previous_until,
    }


def _document(row: KeyRow) -> dict[str, Any]:
    """Return a key as the audit log shows it: without its hashes."""
    hidden = {"id", "hash", "pepper", "previous_hash", "previous_pepper"}
    return {name: value for name, value in _values(row).items() if name not in hidden}


def _row(row: Any) -> KeyRow:
    """Return a row as a key. A role that a newer release has stored is none here, and allows nothing."""
    return KeyRow(
        id=row.id,
        hash=row.hash,
        label=row.label,
        tenant=row.tenant,
        roles=frozenset(_ROLES[role] for role in row.roles if role in _ROLES),
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        models=None if row.models is None else tuple(row.models),
        limits=row.limits,
        pepper=row.pepper,
        rotated_at=row.rotated_at,
        previous_hash=row.previous_hash,
        previous_pepper=row.previous_pepper,
        previous_until=row.previous_until,
    )
