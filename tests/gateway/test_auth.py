"""Keys: who is let in, and what is stored of a key."""

import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.auth import Authenticator, TenantSalts, load_pepper, mint, require
from gateway.core.requests import Principal, Role
from gateway.errors import NotAuthenticated, NotPermitted
from gateway.store.keys import KeyRow

PEPPER = b"p" * 32
TEXT, ROW = mint(label="l", tenant="acme", roles=[Role.INFERENCE], pepper=PEPPER)
KEYS = {ROW.id: ROW}
NOW = time.time()


def authenticator(*, admin_key: str | None = None, open_access: bool = False) -> Authenticator:
    """An authenticator with the test's pepper."""
    return Authenticator(PEPPER, admin_key=admin_key, open_access=open_access)


LET_IN = [
    (f"Bearer {TEXT}", "acme"),
    (f"bearer  {TEXT} ", "acme"),
    ("Bearer root-key", "default"),
]


@pytest.mark.parametrize(("header", "tenant"), LET_IN, ids=range(len(LET_IN)))
def test_who_is_let_in(header: str, tenant: str) -> None:
    """A valid key and the administrator's first key are recognised."""
    assert authenticator(admin_key="root-key").authenticate(header, KEYS).tenant == tenant


KEPT_OUT = [
    (None, KEYS),
    ("", KEYS),
    (TEXT, KEYS),
    (f"Basic {TEXT}", KEYS),
    ("Bearer ", KEYS),
    (f"Bearer {TEXT}x", KEYS),
    (f"Bearer {TEXT[:-1]}", KEYS),
    (f"Bearer {TEXT.upper()}", KEYS),
    ("Bearer tk-", KEYS),
    ("Bearer \udcff", KEYS),
    (f"Bearer {TEXT}", {ROW.id: replace(ROW, revoked_at=NOW - 1)}),
    (f"Bearer {TEXT}", {ROW.id: replace(ROW, expires_at=NOW - 1)}),
    (f"Bearer {TEXT}", {ROW.id: replace(ROW, hash="0" * 64)}),
    ("Bearer ", {}),
]


@pytest.mark.parametrize(("header", "keys"), KEPT_OUT, ids=range(len(KEPT_OUT)))
def test_who_is_kept_out(header: str | None, keys: dict[str, KeyRow]) -> None:
    """Anything else is refused, open access or not, once there is a key."""
    with pytest.raises(NotAuthenticated):
        authenticator(admin_key="root-key", open_access=True).authenticate(header, keys)


def test_open_access_ends_with_the_first_key() -> None:
    """Without any key anybody may do everything, where that is allowed; one key, even revoked, ends it."""
    there = authenticator(open_access=True)
    assert there.authenticate(None, {}).roles == frozenset(Role)
    with pytest.raises(NotAuthenticated):
        there.authenticate(None, {ROW.id: replace(ROW, revoked_at=NOW)})
    with pytest.raises(NotAuthenticated):
        authenticator().authenticate(None, {})


def test_another_pepper_knows_no_key() -> None:
    """What is stored of a key is worthless without the pepper."""
    with pytest.raises(NotAuthenticated):
        Authenticator(b"q" * 32, admin_key=None, open_access=False).authenticate(f"Bearer {TEXT}", KEYS)
    assert TEXT not in str(ROW)


def test_roles_are_required() -> None:
    """A principal without the role is refused with the role's name."""
    principal = Principal("k", "acme", frozenset({Role.FEEDBACK}))
    require(principal, Role.FEEDBACK)
    with pytest.raises(NotPermitted, match="admin"):
        require(principal, Role.ADMIN)


def test_the_pepper_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    """The first call makes the file, later ones read it; a damaged one is not silently replaced."""
    made = load_pepper(tmp_path / "state")
    assert load_pepper(tmp_path / "state") == made
    file = tmp_path / "state" / "pepper"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"short")
    with pytest.raises(ValueError, match="damaged"):
        load_pepper(tmp_path / "state")


def test_salts_are_the_tenants_own() -> None:
    """A tenant's salt is stable, is not another's, and can't be made without the pepper."""
    salts = TenantSalts(b"p" * 32)
    assert salts.of("acme") == salts.of("acme") == TenantSalts(b"p" * 32).of("acme")
    assert len({salts.of("acme"), salts.of("other"), TenantSalts(b"q" * 32).of("acme")}) == 3
    # What vLLM takes as a salt: up to 128 characters, and none of these.
    assert 0 < len(salts.of("a/b@c")) <= 128
    assert not set(salts.of("a/b@c")) & set("@/\\\0")
