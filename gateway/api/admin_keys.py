"""`/admin/keys`: make, show, rotate and revoke API keys. A key's text is shown once and never stored."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Query

from gateway.api.admin_common import Actor, Why, faults
from gateway.api.key_schemas import Key, KeyCreate, KeyPage, KeyRotate, NewKey
from gateway.api.limit_schemas import shown
from gateway.auth import ANYBODY, mint, remint
from gateway.core.limits import Limits
from gateway.core.requests import Role
from gateway.errors import Conflict, NotFound
from gateway.store.control import ControlStore
from gateway.store.keys import KeyRow, NotRotated

DAY_S = 86_400.0
HOUR_S = 3600.0


class KeyEndpoints:
    """The endpoints, on one store and the pepper that keys are hashed with."""

    def __init__(self, control: ControlStore, pepper: bytes) -> None:
        self._control = control
        self._pepper = pepper

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        one = "/keys/{key_id}"
        router.add_api_route("/keys", self.page, methods=["GET"], responses=faults())
        router.add_api_route("/keys", self.create, methods=["POST"], status_code=201, responses=faults(409))
        router.add_api_route(one, self.show, methods=["GET"], responses=faults(404))
        router.add_api_route(one, self.revoke, methods=["DELETE"], responses=faults(404, 409))
        router.add_api_route(f"{one}/rotate", self.rotate, methods=["POST"], responses=faults(404, 409))

    def page(self, tenant: Annotated[str | None, Query(max_length=64)] = None) -> KeyPage:
        """List every key, or a tenant's, oldest first, without its text."""
        now = time.time()
        rows = self._control.keys.rows()
        return KeyPage(data=tuple(_view(row, now) for row in rows if tenant in (None, row.tenant)))

    def show(self, key_id: str) -> Key:
        """Show one key, without its text."""
        row = self._control.keys.get(key_id)
        if row is None:
            raise NotFound(f"there is no key {key_id[:64]!r}")
        return _view(row, time.time())

    def create(self, body: KeyCreate, actor: Actor, why: Why) -> NewKey:
        """Make a key. This answer is the only place where its text is ever shown.

        The first key of a gateway that asked for none must have the role admin: from then on keys are needed.
        """
        if actor == ANYBODY and Role.ADMIN not in body.roles:
            raise Conflict("the first key needs the role admin, or nobody could administer this gateway")
        text, row = mint(
            label=body.label,
            tenant=body.tenant,
            roles=body.roles,
            models=body.models,
            limits=None if body.limits is None else body.limits.stored(),
            pepper=self._pepper,
            expires_at=_end(body.expires_in_days),
        )
        self._control.keys.add(row, actor=actor, why=why)
        return NewKey(**_fields(row, time.time()), key=text)

    def rotate(self, key_id: str, actor: Actor, why: Why, body: KeyRotate | None = None) -> NewKey:
        """Give a key a new text. Its id, and with it what is counted and what sticks to it, stays.

        The old text is good for `grace_hours` more. While one is, only a rotation without grace is taken.
        """
        wanted = body or KeyRotate()
        now = time.time()
        row = self._get_valid(key_id, now)
        if row.rotating(now) and wanted.grace_hours > 0:
            raise Conflict(
                "the text of before the last rotation is still good; wait until it is not, or rotate with "
                "grace_hours 0, which ends both texts at once",
                code="rotation_under_way",
            )
        text, fresh = remint(
            row,
            pepper=self._pepper,
            now=now,
            grace_s=wanted.grace_hours * HOUR_S,
            expires_at=_end(wanted.expires_in_days),
        )
        try:
            self._control.keys.rotate(row, fresh, actor=actor, why=wanted.why or why)
        except NotRotated:
            raise Conflict("the key was changed at the same moment; look at it and decide anew") from None
        return NewKey(**_fields(fresh, now), key=text)

    def revoke(self, key_id: str, actor: Actor, why: Why) -> Key:
        """Revoke a key. The last administrator's key can't revoke itself or be revoked by a key."""
        now = time.time()
        rows = {row.id: row for row in self._control.keys.rows()}
        row = rows.get(key_id)
        if row is None or row.revoked_at is not None:
            raise _no_valid(key_id)
        others = [one for one in rows.values() if one.id != key_id and _administers(one, now)]
        if _administers(row, now) and not others and actor in rows:
            raise Conflict(
                "this is the last key with the role admin; make another one first", code="last_admin"
            )
        self._control.keys.revoke(key_id, actor=actor, why=why)
        return self.show(key_id)

    def _get_valid(self, key_id: str, now: float) -> KeyRow:
        row = self._control.keys.get(key_id)
        if row is None or not row.valid(now):
            raise _no_valid(key_id)
        return row


def _no_valid(key_id: str) -> NotFound:
    return NotFound(f"there is no valid key {key_id[:64]!r}")


def _end(days: float | None) -> float | None:
    return None if days is None else time.time() + days * DAY_S


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
        "models": row.models,
        "limits": shown(Limits.of(row.limits)) if row.limits else None,
        "created_at": row.created_at,
        "expires_at": row.expires_at,
        "revoked_at": row.revoked_at,
        "rotated_at": row.rotated_at,
        "previous_until": row.previous_until if row.rotating(now) else None,
        "pepper": row.pepper,
        "valid": row.valid(now),
    }
