"""`/admin/keys`: make, list and revoke API keys. A key's text is shown once and never stored."""

import time
from typing import Any

from fastapi import APIRouter

from gateway.api.admin_common import Actor, Why, faults
from gateway.api.admin_schemas import Key, KeyCreate, KeyPage, NewKey
from gateway.auth import mint
from gateway.core.requests import Role
from gateway.errors import Conflict, NotFound
from gateway.store.control import ControlStore
from gateway.store.keys import KeyRow

DAY_S = 86_400.0
ANYBODY = "anonymous"
"""The key id of callers while there is no key (gateway.auth)."""


class KeyEndpoints:
    """The endpoints, on one store and the pepper that keys are hashed with."""

    def __init__(self, control: ControlStore, pepper: bytes) -> None:
        self._control = control
        self._pepper = pepper

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        router.add_api_route("/keys", self.page, methods=["GET"], responses=faults())
        router.add_api_route("/keys", self.create, methods=["POST"], status_code=201, responses=faults(409))
        router.add_api_route("/keys/{key_id}", self.revoke, methods=["DELETE"], responses=faults(404, 409))

    def page(self) -> KeyPage:
        """List every key, oldest first, without its text."""
        now = time.time()
        return KeyPage(data=tuple(_view(row, now) for row in self._control.keys.rows()))

    def create(self, body: KeyCreate, actor: Actor) -> NewKey:
        """Make a key. This answer is the only place where its text is ever shown.

        The first key of a gateway that asked for none must have the role admin: from then on keys are needed.
        """
        if actor.key_id == ANYBODY and Role.ADMIN not in body.roles:
            raise Conflict("the first key needs the role admin, or nobody could administer this gateway")
        days = body.expires_in_days
        text, row = mint(
            label=body.label,
            tenant=body.tenant,
            roles=body.roles,
            pepper=self._pepper,
            expires_at=None if days is None else time.time() + days * DAY_S,
        )
        self._control.keys.add(row, actor=actor.key_id)
        return NewKey(**_fields(row, time.time()), key=text)

    def revoke(self, key_id: str, actor: Actor, why: Why) -> Key:
        """Revoke a key. The last administrator's key can't revoke itself or be revoked by a key."""
        now = time.time()
        rows = {row.id: row for row in self._control.keys.rows()}
        row = rows.get(key_id)
        if row is None or row.revoked_at is not None:
            raise NotFound(f"there is no valid key {key_id!r}")
        others = [one for one in rows.values() if one.id != key_id and _administers(one, now)]
        if _administers(row, now) and not others and actor.key_id in rows:
            raise Conflict(
                "this is the last key with the role admin; make another one first", code="last_admin"
            )
        self._control.keys.revoke(key_id, actor=actor.key_id, why=why)
        after = next(one for one in self._control.keys.rows() if one.id == key_id)
        return _view(after, now)


def _administers(row: KeyRow, now: float) -> bool:
    return Role.ADMIN in row.roles and row.valid(now)


def _view(row: KeyRow, now: float) -> Key:
    return Key(**_fields(row, now))


def _fields(row: KeyRow, now: float) -> dict[str, Any]:
    return {
        "id": row.id,
        "label": row.label,
        "tenant": row.tenant,
        "roles": tuple(sorted(row.roles)),
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "valid": row.valid(now),
    }
