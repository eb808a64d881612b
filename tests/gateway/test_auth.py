"""Keys: who is let in, and what is stored of a key."""

import hmac
import math
import time
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import auth
from gateway.auth import Authenticator, TenantSalts, UnknownKey, key_id_of, mint, remint, require
from gateway.core.requests import Principal, Role
from gateway.errors import NotAuthenticated, NotPermitted
from gateway.peppers import Peppers
from gateway.store.keys import KeyRow

PEPPER = b"p" * 32
TEXT, ROW = mint(label="l", tenant="acme", roles=[Role.INFERENCE], pepper=PEPPER)
KEYS = {ROW.id: ROW}
NOW = time.time()


def authenticator(*, admin_key: str | None = None, open_access: bool = False) -> Authenticator:
    """An authenticator with the test's pepper."""
    return Authenticator(Peppers(PEPPER), admin_key=admin_key, open_access=open_access)


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
        Authenticator(Peppers(b"q" * 32), admin_key=None, open_access=False).authenticate(
            f"Bearer {TEXT}", KEYS
        )
    assert TEXT not in str(ROW)


def test_roles_are_required() -> None:
    """A principal without the role is refused with the role's name."""
    principal = Principal("k", "acme", frozenset({Role.FEEDBACK}))
    require(principal, Role.FEEDBACK)
    with pytest.raises(NotPermitted, match="admin"):
        require(principal, Role.ADMIN)


def test_salts_are_the_tenants_own() -> None:
    """A tenant's salt is stable, is not another's, and can't be made without the pepper."""
    salts = TenantSalts(b"p" * 32)
    assert salts.of("acme") == salts.of("acme") == TenantSalts(b"p" * 32).of("acme")
    assert len({salts.of("acme"), salts.of("other"), TenantSalts(b"q" * 32).of("acme")}) == 3
    # What vLLM takes as a salt: up to 128 characters, and none of these.
    assert 0 < len(salts.of("a/b@c")) <= 128
    assert not set(salts.of("a/b@c")) & set("@/\\\0")


# --- how a key is written ------------------------------------------------------------------------------


@given(st.text())
def test_any_text_is_no_key_or_one_of_ours(text: str) -> None:
    """Whatever is sent, reading it raises nothing, and only what has the form of a key has an id."""
    key_id = key_id_of(text)
    assert key_id is None or (len(text) == 48 and text.isascii() and text.startswith(f"tk-{key_id}-"))
    with pytest.raises(NotAuthenticated):
        authenticator(admin_key="root-key").authenticate(f"Bearer {text}", KEYS)


@given(st.from_regex(r"tk-[a-z0-9]{12}-[A-Za-z0-9]{32}", fullmatch=True))
def test_what_is_written_like_a_key_has_its_id(text: str) -> None:
    """The id is the part between the dashes; a key that no row is of is unknown, which is more than wrong."""
    assert key_id_of(text) == text.split("-")[1]
    with pytest.raises(UnknownKey):
        authenticator().authenticate(f"Bearer {text}", KEYS)


@given(st.integers(0, len(TEXT) - 1), st.characters(codec="ascii"))
def test_a_key_with_another_character_is_another_key(place: int, character: str) -> None:
    """No character of a key can be exchanged."""
    text = TEXT[:place] + character + TEXT[place + 1 :]
    if text == TEXT:
        return
    with pytest.raises(NotAuthenticated):
        authenticator().authenticate(f"Bearer {text}", KEYS)


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT[:-1] + ("a" if TEXT[-1] != "a" else "b"),
        f"tk-{'0' * 12}-{'A' * 32}",
        "nonsense",
        "tk-",
        "é",
    ],
    ids=range(6),
)
def test_every_text_costs_the_same_work(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """A known id, an unknown one and nonsense: as many hashes, and as many comparisons in constant time."""
    hashed, compared = [], []
    digest, compare = hmac.digest, hmac.compare_digest

    class Counting:
        @staticmethod
        def digest(key: bytes, message: bytes, name: str) -> bytes:
            hashed.append(message)
            return digest(key, message, name)

        @staticmethod
        def compare_digest(one: str, other: str) -> bool:
            compared.append((one, other))
            return compare(one, other)

    some = authenticator(admin_key="root-key")
    monkeypatch.setattr(auth, "hmac", Counting)
    try:
        some.authenticate(f"Bearer {text}", KEYS)
    except NotAuthenticated:
        assert text != TEXT
    assert (len(hashed), len(compared)) == (3, 3)


# --- rotation ------------------------------------------------------------------------------------------

OTHER = b"o" * 32


def recognised(text: str, row: KeyRow, now: float, *, peppers: Peppers | None = None) -> float | None:
    """Until when a text is good, or None."""
    some = Authenticator(peppers or Peppers(PEPPER), admin_key=None, open_access=False)
    try:
        return some.recognise(f"Bearer {text}", {row.id: row}, now=now).until
    except NotAuthenticated:
        return None


def test_both_texts_are_good_during_the_grace() -> None:
    """The new text at once, the old one until the grace is over, under the same id."""
    text, row = remint(ROW, pepper=PEPPER, now=NOW, grace_s=60.0)
    assert (row.id, text == TEXT) == (ROW.id, False)
    assert [recognised(text, row, NOW + at) for at in (0, 59, 61)] == [math.inf] * 3
    assert [recognised(TEXT, row, NOW + at) for at in (0, 59, 60)] == [NOW + 60, NOW + 60, None]


def test_without_a_grace_the_old_text_ends_at_once() -> None:
    """Also the one from before a rotation that was under way."""
    second, row = remint(ROW, pepper=PEPPER, now=NOW, grace_s=60.0)
    third, row = remint(row, pepper=PEPPER, now=NOW + 1, grace_s=0.0)
    assert [recognised(text, row, NOW + 1) for text in (TEXT, second, third)] == [None, None, math.inf]


@pytest.mark.parametrize("change", [{"revoked_at": NOW - 1}, {"expires_at": NOW + 10}])
def test_a_grace_ends_with_its_key(change: dict[str, float]) -> None:
    """A key that is revoked or expires takes its old text with it."""
    _, row = remint(ROW, pepper=PEPPER, now=NOW, grace_s=60.0)
    assert recognised(TEXT, replace(row, **change), NOW + 11) is None


def test_a_key_outlives_a_change_of_the_pepper() -> None:
    """Old keys go on while the former pepper is given; rotated ones lean on the new one."""
    both = Peppers(OTHER, (PEPPER,))
    assert recognised(TEXT, ROW, NOW, peppers=both) == math.inf
    assert recognised(TEXT, replace(ROW, pepper=None), NOW, peppers=both) == math.inf
    assert recognised(TEXT, ROW, NOW, peppers=Peppers(OTHER)) is None
    text, row = remint(ROW, pepper=OTHER, now=NOW, grace_s=60.0)
    assert recognised(TEXT, row, NOW, peppers=both) == NOW + 60
    assert recognised(text, row, NOW, peppers=Peppers(OTHER)) == math.inf


@pytest.mark.parametrize(("jump", "good"), [(-3600.0, True), (0.0, True), (3600.0, False)])
def test_a_clock_that_jumps(jump: float, good: bool) -> None:
    """Expiry goes by the wall clock: early after a jump forward, late after one back, and no trace stays."""
    row = replace(ROW, expires_at=NOW + 60)
    assert (recognised(TEXT, row, NOW + jump) is not None) is good
    assert recognised(TEXT, row, NOW) == NOW + 60
