"""Who calls, remembered: never for longer than the key is good."""

import time
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.api.access import MAX_REMEMBERED, Access
from gateway.auth import Authenticator, mint, remint
from gateway.core.requests import Role
from gateway.errors import NotAuthenticated, Unavailable
from gateway.peppers import Peppers
from gateway.store.keys import KeyRow

PEPPER = b"p" * 32
TEXT, ROW = mint(label="l", tenant="acme", roles=[Role.INFERENCE], pepper=PEPPER)


class Tables:
    """The table in use, swapped whole like the gateway's; and whether the store answers."""

    def __init__(self, *rows: KeyRow) -> None:
        self.store_ok = True
        self.use(*rows)

    def use(self, *rows: KeyRow, keys_lapsed: bool = False) -> None:
        """Put a new table in use."""
        self.table: Any = SimpleNamespace(keys={row.id: row for row in rows}, keys_lapsed=keys_lapsed)

    def lapse(self, *, keys_lapsed: bool = True) -> None:
        """Put the same keys in use, as a watcher does that lost the store."""
        self.table = SimpleNamespace(keys=self.table.keys, keys_lapsed=keys_lapsed)


def access(tables: Tables, *, open_access: bool = False, admin_key: str | None = "root") -> Access:
    """Access to whatever table is in use at the time."""
    authenticator = Authenticator(Peppers(PEPPER), admin_key=admin_key, open_access=open_access)
    return Access(authenticator, lambda: tables.table, store_ok=lambda: tables.store_ok)


def test_a_key_is_good_until_the_table_says_otherwise() -> None:
    """A key that was let in is refused as soon as a table without it is in use."""
    tables = Tables(ROW)
    some = access(tables)
    assert some.by_header(f"Bearer {TEXT}").tenant == "acme"
    assert some.by_header(f"Bearer {TEXT}") is some.by_header(f"Bearer {TEXT}")
    tables.use(replace(ROW, revoked_at=1.0))
    with pytest.raises(NotAuthenticated):
        some.by_header(f"Bearer {TEXT}")


def test_a_remembered_key_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that was let in a moment ago is refused when its time is over."""
    now = time.time()
    some = access(Tables(replace(ROW, expires_at=now + 60)))
    assert some.by_header(f"Bearer {TEXT}").key_id == ROW.id
    monkeypatch.setattr(time, "time", lambda: now + 60)
    with pytest.raises(NotAuthenticated):
        some.by_header(f"Bearer {TEXT}")


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer nobody", "Basic KEY"])
def test_what_is_refused_is_not_remembered(header: str | None) -> None:
    """A refusal is found anew each time, and takes no memory."""
    some = access(Tables(ROW))
    for _ in range(3):
        with pytest.raises(NotAuthenticated):
            some.by_header(header and header.replace("KEY", TEXT))
    assert not some._memory.known


def test_memory_is_bounded() -> None:
    """Many ways to write the same key do not fill the memory."""
    some = access(Tables(ROW))
    for spaces in range(MAX_REMEMBERED + 10):
        some.by_header("Bearer" + " " * (spaces + 1) + TEXT)
    assert len(some._memory.known) <= MAX_REMEMBERED


def answer(some: Access, text: str) -> str:
    """Who a key is, or what it gets."""
    try:
        return some.by_header(f"Bearer {text}").key_id
    except NotAuthenticated:
        return "401"
    except Unavailable as error:
        return str(error.code)


STRANGER = mint(label="", tenant="t", roles=[Role.INFERENCE], pepper=PEPPER)[0]


def test_while_the_store_is_away_known_keys_go_on() -> None:
    """A known key is good, a key that may be new gets 503, and what has ended or can't be a key gets 401."""
    ended = mint(label="", tenant="t", roles=[Role.INFERENCE], pepper=PEPPER, expires_at=1.0)
    revoked = mint(label="", tenant="t", roles=[Role.INFERENCE], pepper=PEPPER)
    tables = Tables(ROW, ended[1], replace(revoked[1], revoked_at=1.0))
    some = access(tables)
    asked = [
        TEXT,
        STRANGER,
        TEXT[:-1] + "!",
        TEXT[:-1] + ("x" if TEXT[-1] != "x" else "y"),
        ended[0],
        revoked[0],
    ]
    assert [answer(some, text) for text in asked] == [ROW.id, "401", "401", "401", "401", "401"]
    tables.store_ok = False
    unknown = "key_not_known_yet"
    assert [answer(some, text) for text in asked] == [ROW.id, unknown, "401", unknown, "401", "401"]


def test_after_a_long_outage_no_key_counts() -> None:
    """Known keys stop with 503, remembered or not, until the store is back; the settings' key goes on."""
    tables = Tables(ROW)
    some = access(tables)
    assert answer(some, TEXT) == ROW.id
    tables.store_ok = False
    tables.lapse()
    assert [answer(some, text) for text in (TEXT, TEXT, STRANGER, "root")] == [
        "keys_lapsed",
        "keys_lapsed",
        "key_not_known_yet",
        "admin",
    ]
    tables.store_ok = True
    tables.lapse(keys_lapsed=False)
    assert [answer(some, text) for text in (TEXT, STRANGER)] == [ROW.id, "401"]


def test_open_access_lapses_too() -> None:
    """Where nobody had a key, one may have been made meanwhile."""
    tables = Tables()
    some = access(tables, open_access=True, admin_key=None)
    assert some.by_header(None).key_id == "anonymous"
    tables.lapse()
    with pytest.raises(Unavailable):
        some.by_header(None)


def test_a_remembered_old_text_ends_with_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered of a key's old text is forgotten when the grace is over; the new text goes on."""
    now = time.time()
    text, row = remint(ROW, pepper=PEPPER, now=now, grace_s=60.0)
    some = access(Tables(row))
    assert [answer(some, one) for one in (TEXT, text)] == [ROW.id, ROW.id]
    monkeypatch.setattr(time, "time", lambda: now + 60)
    assert [answer(some, one) for one in (TEXT, text)] == ["401", ROW.id]


def test_who_holds_an_old_table_tells_the_new_one_nothing() -> None:
    """A thread that began with the table of before, and ends after the swap, brings no revoked key back."""
    tables = Tables(ROW)
    some = access(tables)
    old = tables.table
    some.by_header(f"Bearer {TEXT}")
    held = some._memory.known
    tables.use(replace(ROW, revoked_at=1.0))
    assert answer(some, TEXT) == "401"
    some._recognise(f"Bearer {TEXT}", old, held)
    assert answer(some, TEXT) == "401"


def test_the_same_keys_in_a_new_table_stay_known() -> None:
    """A table that differs in something else than its keys costs nobody a hash."""
    tables = Tables(ROW)
    some = access(tables)
    who = some.by_header(f"Bearer {TEXT}")
    tables.lapse(keys_lapsed=False)
    assert some.by_header(f"Bearer {TEXT}") is who
