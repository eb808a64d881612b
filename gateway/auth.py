"""API keys: how one is made, stored and recognised.

A key is written `tk-ID-SECRET`. The id is public and finds the row; the secret has 190 bits. Stored is
HMAC-SHA-256(pepper, key), so that the database alone lets nobody guess or check a key. The pepper is a
file in the state directory that only its owner reads.
"""

import hmac
import os
import secrets
import string
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from gateway.core.requests import Principal, Role
from gateway.errors import NotAuthenticated, NotPermitted
from gateway.store.keys import KeyRow

PEPPER_BYTES = 32
_ID_CHARS = 12
_SECRET_CHARS = 32
_ALPHABET = string.ascii_letters + string.digits
_ANYBODY = Principal("anonymous", "default", frozenset(Role))
_ADMINISTRATOR = Principal("admin", "default", frozenset(Role))
_NO_ROW = KeyRow("", "0" * 64, "", "", frozenset(), 0.0, None, None)


def load_pepper(state_dir: Path) -> bytes:
    """Return the pepper of a state directory; the first call makes it.

    Raises:
        OSError: the file can't be read or made.
        ValueError: the file is not a pepper.
    """
    path = state_dir / "pepper"
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        scratch = path.with_name(f".pepper-{os.getpid()}-{secrets.token_hex(4)}")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(PEPPER_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)  # fails when another process was first, whose pepper then counts
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    pepper = path.read_bytes()
    if len(pepper) != PEPPER_BYTES:
        raise ValueError(f"{path} is damaged; restore it, or remove it and make every key again")
    return pepper


def mint(
    *, label: str, tenant: str, roles: Iterable[Role], pepper: bytes, expires_at: float | None = None
) -> tuple[str, KeyRow]:
    """Make a key. The text is shown once; only the row is stored."""
    key_id = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(_ID_CHARS))
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARS))
    text = f"tk-{key_id}-{secret}"
    row = KeyRow(key_id, _hash(text, pepper), label, tenant, frozenset(roles), time.time(), expires_at, None)
    return text, row


class Authenticator:
    """Recognises keys.

    `open_access` lets anybody in while there is no key at all; the gateway then listens on loopback only.
    """

    def __init__(self, pepper: bytes, *, admin_key: str | None, open_access: bool) -> None:
        self._pepper = pepper
        self._admin = _hash(admin_key, pepper) if admin_key else None
        self._open_access = open_access

    def authenticate(self, authorization: str | None, keys: Mapping[str, KeyRow]) -> Principal:
        """Return who sends `Authorization: Bearer KEY`.

        Raises:
            NotAuthenticated: no key is given, or not a valid one. Which of the two is all that it says.
        """
        if not keys and self._admin is None and self._open_access:
            return _ANYBODY
        scheme, _, text = (authorization or "").partition(" ")
        text = text.strip()
        if scheme.lower() != "bearer" or not text:
            raise NotAuthenticated(
                "this gateway needs an API key: send 'Authorization: Bearer KEY', "
                "or 'x-api-key: KEY' to /v1/messages"
            )
        given = _hash(text, self._pepper)
        if self._admin is not None and hmac.compare_digest(given, self._admin):
            return _ADMINISTRATOR
        row = keys.get(text[3 : 3 + _ID_CHARS], _NO_ROW)
        if not hmac.compare_digest(given, row.hash) or not row.valid(time.time()):
            raise NotAuthenticated("the API key is not valid")
        return Principal(row.id, row.tenant, row.roles)


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


def _hash(text: str, pepper: bytes) -> str:
    return hmac.digest(pepper, text.encode("utf-8", "surrogateescape"), "sha256").hex()
