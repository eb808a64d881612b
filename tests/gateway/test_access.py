"""Who calls, remembered: never for longer than the key is good."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.api.access import MAX_REMEMBERED, Access
from gateway.auth import Authenticator, mint
from gateway.core.requests import Role
from gateway.errors import NotAuthenticated

PEPPER = b"p" * 32
TEXT, ROW = mint(label="l", tenant="acme", roles=[Role.INFERENCE], pepper=PEPPER)


def access(table: Any) -> Access:
    """Access to whatever `table.keys` holds at the time."""
    return Access(Authenticator(PEPPER, admin_key="root", open_access=False), lambda: table)


def test_a_key_is_good_until_the_table_says_otherwise() -> None:
    """A key that was let in is refused as soon as a table without it is in use."""
    table = SimpleNamespace(keys={ROW.id: ROW})
    some = access(table)
    assert some.by_header(f"Bearer {TEXT}").tenant == "acme"
    assert some.by_header(f"Bearer {TEXT}") is some.by_header(f"Bearer {TEXT}")
    table.keys = {ROW.id: replace(ROW, revoked_at=1.0)}
    with pytest.raises(NotAuthenticated):
        some.by_header(f"Bearer {TEXT}")


def test_a_remembered_key_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was let in a moment ago is refused when its time is over."""
    now = time.time()
    some = access(SimpleNamespace(keys={ROW.id: replace(ROW, expires_at=now + 60)}))
    assert some.by_header(f"Bearer {TEXT}").key_id == ROW.id
    monkeypatch.setattr(time, "time", lambda: now + 60)
    with pytest.raises(NotAuthenticated):
        some.by_header(f"Bearer {TEXT}")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer nobody", "Basic KEY"])
def test_what_is_refused_is_not_remembered(header: str | None) -> None:
    """A refusal is found anew each time, and takes no memory."""
    some = access(SimpleNamespace(keys={ROW.id: ROW}))
    for _ in range(3):
        with pytest.raises(NotAuthenticated):
            some.by_header(header and header.replace("KEY", TEXT))
    assert not some._known


def test_memory_is_bounded() -> None:
    """Many ways to write the same key do not fill the memory."""
    some = access(SimpleNamespace(keys={ROW.id: ROW}))
    for spaces in range(MAX_REMEMBERED + 10):
        some.by_header("Bearer" + " " * (spaces + 1) + TEXT)
    assert len(some._known) <= MAX_REMEMBERED
