"""API keys: how one is made, rotated and recognised.

A key is written `tk-ID-SECRET`. The id is public and finds the row; the secret has 190 bits. Stored is
HMAC-SHA-256(pepper, key), so that the database alone lets nobody guess or check a key (`gateway.peppers`).
An unknown id costs as much work as a known one, and hashes are compared in constant time.
"""

import hmac
import math
import re
import secrets
import string
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from gateway.core.requests import Principal, Role
from gateway.core.scopes import Scope
from gateway.errors import NotAuthenticated, NotPermitted
from gateway.peppers import Peppers, id_of
from gateway.store.keys import KeyRow

ANYBODY = "anonymous"
"""The key id of callers while there is no key."""

ADMINISTRATOR = "admin"
"""The key id of whoever has the settings' `auth.admin_key`."""

_ID_CHARS = 12
_SECRET_CHARS = 32
_ID_ALPHABET = string.ascii_lowercase + string.digits
_ALPHABET = string.ascii_letters + string.digits
_KEY = re.compile(rf"tk-([a-z0-9]{{{_ID_CHARS}}})-[A-Za-z0-9]{{{_SECRET_CHARS}}}")
_NO_HASH = "0" * 64
_NO_ROW = KeyRow("", _NO_HASH, "", "", frozenset(), 0.0, None, None)


class UnknownKey(NotAuthenticated):
    """A key that is written as keys are, and that the rows at hand don't know: another one may."""


class Recognised(NamedTuple):
    """Who calls, and until when that is so (seconds since the epoch).

    `stored` is False for the key of the settings, which needs no store.
    """

    principal: Principal
    until: float
    stored: bool = True


_ANYBODY = Recognised(Principal(ANYBODY, "default", frozenset(Role)), math.inf)
_ADMINISTRATOR = Recognised(
    Principal(ADMINISTRATOR, "default", frozenset(Role), "auth.admin_key"), math.inf, stored=False
)


def key_id_of(text: str) -> str | None:
    """Return the public id of what is written as a key is; None for anything else."""
    match = _KEY.fullmatch(text)
    return None if match is None else match[1]


def mint(
    *,
    label: str,
    tenant: str,
    roles: Iterable[Role],
    pepper: bytes,
    expires_at: float | None = None,
    models: Iterable[str] | None = None,
    limits: Mapping[str, Any] | None = None,
) -> tuple[str, KeyRow]:
    """Make a key. The text is shown once; only the row is stored."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(_ID_CHARS))
    text = _text(key_id)
    row = KeyRow(
        key_id,
        _hash(text, pepper),
        label,
        tenant,
        frozenset(roles),
        time.time(),
        expires_at,
        None,
        models=None if models is None else tuple(models),
        limits=limits,
        pepper=id_of(pepper),
    )
    return text, row


def remint(
    row: KeyRow, *, pepper: bytes, now: float, grace_s: float, expires_at: float | None = None
) -> tuple[str, KeyRow]:
    """Give a key another text, under the same id. The old one is good for `grace_s` more.

    `expires_at` is the key's new end; without one it keeps the end that it has.
    """
    text = _text(row.id)
    fresh = replace(
        row,
        hash=_hash(text, pepper),
        pepper=id_of(pepper),
        rotated_at=now,
        expires_at=row.expires_at if expires_at is None else expires_at,
        previous_hash=row.hash if grace_s > 0 else None,
        previous_pepper=row.pepper if grace_s > 0 else None,
        previous_until=now + grace_s if grace_s > 0 else None,
    )
    return text, fresh


class Authenticator:
    """Recognises keys.

    `open_access` lets anybody in while there is no key at all; the gateway then listens on loopback only.
    """

    def __init__(self, peppers: Peppers, *, admin_key: str | None, open_access: bool) -> None:
        self._peppers = peppers
        self._admin = _hash(admin_key, peppers.current) if admin_key else None
        self._open_access = open_access

    def authenticate(self, authorization: str | None, keys: Mapping[str, KeyRow]) -> Principal:
        """Return who sends `Authorization: Bearer KEY`.

        Raises:
            NotAuthenticated: no key is given, or not a valid one. Which of the two is all that it says.
        """
        return self.recognise(authorization, keys, now=time.time()).principal

    def recognise(self, authorization: str | None, keys: Mapping[str, KeyRow], *, now: float) -> Recognised:
        """Return who sends `Authorization: Bearer KEY`, and until when that is so.

        Raises:
            UnknownKey: what is sent could be a key, and is none of `keys`.
            NotAuthenticated: no key is given, or one that has ended, or what can't be one.
        """
        if not keys and self._admin is None and self._open_access:
            return _ANYBODY
        scheme, _, text = (authorization or "").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise NotAuthenticated(
                "this gateway needs an API key: send 'Authorization: Bearer KEY', "
                "or 'x-api-key: KEY' to Anthropic's endpoints"
            )
        if self._admin is not None and hmac.compare_digest(_hash(text, self._peppers.current), self._admin):
            return _ADMINISTRATOR
        key_id = key_id_of(text)
        row = keys.get(key_id or "", _NO_ROW)
        good, former = self._fits(text, row)
        if not (good or former):
            kind = NotAuthenticated if key_id is None else UnknownKey
            raise kind("the API key is not valid")
        if not row.valid(now) or (former and not good and not row.rotating(now)):
            raise NotAuthenticated("the API key is not valid")
        principal = Principal(row.id, row.tenant, row.roles, row.label, Scope.of(row.models))
        ends = [at for at in (row.expires_at, None if good else row.previous_until) if at is not None]
        return Recognised(principal, min(ends, default=math.inf))

    def _fits(self, text: str, row: KeyRow) -> tuple[bool, bool]:
        """Whether a text is the row's, and whether it is the one of before. Always the same work."""
        peppers = self._peppers
        now = _hash(text, peppers.of(row.pepper))
        before = _hash(text, peppers.of(row.previous_pepper))
        good = hmac.compare_digest(now, row.hash)
        former = hmac.compare_digest(before, row.previous_hash or _NO_HASH)
        return good, former


class TenantSalts:
    """The `cache_salt` of each tenant: the engine's prefix cache never shows one what another has asked.

    A salt is a keyed hash of the tenant's name, so that nobody can guess it, and every worker and every
    restart finds the same one.
    """

    def __init__(self, pepper: bytes) -> None:
        self._pepper = pepper
        self._salts: dict[str, str] = {}

    def of(self, tenant: str) -> str:
        """Return the salt of a tenant: 64 hexadecimal digits."""
        salt = self._salts.get(tenant)
        if salt is None:  # tenants are those of the keys: few
            salt = self._salts[tenant] = _hash(f"cache-salt\0{tenant}", self._pepper)
        return salt


def require(principal: Principal, role: Role) -> None:
    """Refuse a principal without the role.

    Raises:
        NotPermitted: the role is missing.
    """
    if role not in principal.roles:
        raise NotPermitted(f"this API key lacks the role {role.value!r}")


def _text(key_id: str) -> str:
    return f"tk-{key_id}-" + "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARS))


def _hash(text: str, pepper: bytes) -> str:
    return hmac.digest(pepper, text.encode("utf-8", "surrogateescape"), "sha256").hex()
