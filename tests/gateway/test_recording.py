"""Recording: batches, drops, a store that is down, and what is redacted."""

import asyncio
import time
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import DataError, IntegrityError

from gateway import recording
from gateway.core.redaction import redact
from gateway.core.requests import RequestRow
from gateway.core.structured import Expected
from gateway.peppers import Peppers, id_of
from gateway.recording import CUT_MARGIN_CHARS, Recorder, clean_text
from gateway.store.database import StoreUnavailable
from gateway.store.tombstones import Guard, unit_hash
from gateway.telemetry import Telemetry

PEPPER = b"p" * 32


class FakeRequests:
    """A requests table that can be down, slow, or refuse rows."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.rows: dict[str, RequestRow] = {}
        self.down = False
        self.poison: set[str] = set()
        self.fault: Exception = ValueError("surrogates")

    def write(self, rows: Sequence[RequestRow]) -> None:
        if self.down:
            raise StoreUnavailable("down")
        if any(row.id in self.poison for row in rows):
            raise self.fault
        self.batches.append([row.id for row in rows])
        self.rows |= {row.id: row for row in rows}

    def remove(self, ids: Sequence[str]) -> None:
        for each in ids:
            del self.rows[each]


def chained(cause: type[IntegrityError | DataError]) -> StoreUnavailable:
    """A fault of the store as `Database` raises it."""
    error = StoreUnavailable("refused")
    error.__cause__ = cause("INSERT", {}, ValueError("x"))
    return error


def recorder(requests: FakeRequests, telemetry: Telemetry | None = None, **limits: int) -> Recorder:
    """A recorder with small limits."""
    sizes = {"queue_size": 100, "batch_size": 10, "max_text_chars": 50, **limits}
    return Recorder(requests, telemetry or Telemetry(), interval_s=0.01, **sizes)  # type: ignore[arg-type]


def row(number: int, **fields: object) -> RequestRow:
    """A row to store."""
    return RequestRow(f"req-{number}", time.time(), "completions", **fields)  # type: ignore[arg-type]


def dropped(telemetry: Telemetry) -> float:
    """How many rows were dropped."""
    return telemetry.registry.get_sample_value("turnout_records_dropped_total") or 0.0


def test_rows_are_written_in_batches_and_in_order() -> None:
    """Every row is stored once, in order, in batches of the stated size."""

    async def run() -> None:
        requests = FakeRequests()
        there = recorder(requests)
        task = asyncio.create_task(there.run())
        for number in range(25):
            there.put(row(number))
        while len(requests.rows) < 25:  # noqa: ASYNC110 - the writer is a thread
            await asyncio.sleep(0.001)
        task.cancel()
        assert [len(batch) for batch in requests.batches] == [10, 10, 5]
        assert list(requests.rows) == [f"req-{n}" for n in range(25)]

    asyncio.run(run())


def test_a_full_queue_drops_and_counts() -> None:
    """Beyond the queue's size rows are dropped, and every drop is counted."""

    async def run() -> None:
        telemetry = Telemetry()
        there = recorder(FakeRequests(), telemetry, queue_size=5)
        for number in range(8):
            there.put(row(number))
        assert dropped(telemetry) == 3
        assert telemetry.registry.get_sample_value("turnout_record_queue_rows") == 5

    asyncio.run(run())


def test_a_store_that_comes_back_gets_every_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is down rows wait; afterwards each is stored once."""
    monkeypatch.setattr("gateway.recording.RETRY_S", 0.01)

    async def run() -> None:
        requests, telemetry = FakeRequests(), Telemetry()
        requests.down = True
        there = recorder(requests, telemetry)
        task = asyncio.create_task(there.run())
        for number in range(3):
            there.put(row(number))
        name = "turnout_store_errors_total"
        while not telemetry.registry.get_sample_value(name, {"task": "recording"}):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        assert there.find("req-1") is not None
        requests.down = False
        while len(requests.rows) < 3:  # noqa: ASYNC110 - the writer is a thread
            await asyncio.sleep(0.001)
        task.cancel()
        assert dropped(telemetry) == 0
        assert sum(len(batch) for batch in requests.batches) == 3

    asyncio.run(run())


def test_flushing_stores_what_is_left() -> None:
    """At the end of the process the queue is written out, also right after the writer was cancelled."""

    async def run() -> None:
        requests = FakeRequests()
        there = recorder(requests)
        task = asyncio.create_task(there.run())
        for number in range(35):
            there.put(row(number))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await there.flush()
        assert sorted(requests.rows) == sorted(f"req-{n}" for n in range(35))
        assert sum(len(batch) for batch in requests.batches) == 35

    asyncio.run(run())


@pytest.mark.parametrize("down", [False, True])
def test_what_is_queued_is_settled_at_once(down: bool) -> None:
    """Rows that somebody waits for are written long before the interval is over, if the store takes them."""

    async def run() -> None:
        requests = FakeRequests()
        there = recorder(requests)
        there.interval_s = 3600.0
        task = asyncio.create_task(there.run())
        for number in range(25):
            there.put(row(number))
        requests.down = down
        assert await there.settle(0.05 if down else 10.0) is not down
        assert len(requests.rows) == (0 if down else 25)
        task.cancel()

    asyncio.run(run())


def test_flushing_into_a_store_that_is_down_counts_the_loss() -> None:
    """What can't be written before the end is counted as dropped."""

    async def run() -> None:
        requests, telemetry = FakeRequests(), Telemetry()
        requests.down = True
        there = recorder(requests, telemetry)
        there.put(row(1))
        await there.flush(timeout_s=0.05)
        assert dropped(telemetry) == 1

    asyncio.run(run())


@pytest.mark.parametrize(
    ("fault", "lost"), [(ValueError("odd"), 1), (chained(DataError), 1), (chained(IntegrityError), 0)]
)
def test_one_bad_row_does_not_hold_up_the_others(fault: Exception, lost: int) -> None:
    """A row that the database refuses is dropped alone; one that it holds already is not lost."""

    async def run() -> None:
        requests, telemetry = FakeRequests(), Telemetry()
        requests.poison, requests.fault = {"req-1"}, fault
        there = recorder(requests, telemetry)
        for number in range(3):
            there.put(row(number))
        await there.flush()
        assert sorted(requests.rows) == ["req-0", "req-2"]
        assert dropped(telemetry) == lost

    asyncio.run(run())


def test_a_row_is_found_before_it_is_stored() -> None:
    """Feedback on a request of this moment finds it by our id and by the answer's."""

    async def run() -> None:
        there = recorder(FakeRequests())
        there.put(row(1, answer_id="chatcmpl-1"))
        assert there.find("req-1") is there.find("chatcmpl-1") is not None
        assert there.find("req-2") is None

    asyncio.run(run())


def test_text_is_cut_after_redaction() -> None:
    """Stored text is redacted unless that is off, has no NUL, and is cut where it is too long."""

    async def run() -> None:
        requests = FakeRequests()
        there = recorder(requests)
        text = "a\0" + "b" * 44 + " ann@example.com"
        there.put(row(1, prompt=text))
        there.put(row(2, prompt=text), redacted=False)
        await there.flush()
        assert requests.rows["req-1"].prompt == "a" + "b" * 44 + " [E-M"
        assert requests.rows["req-2"].prompt == "a" + "b" * 44 + " ann@"

    asyncio.run(run())


KEYS = "sk-proj-" + "k" * 200


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ((KEYS + " ") * 2, "[KEY] [KEY] "),
        (((KEYS + " ") * 4)[: 50 + CUT_MARGIN_CHARS], "[KEY] [KEY] [KEY]" + "…" * 33),
        (("\0" * 600)[: 50 + CUT_MARGIN_CHARS], "…" * 50),
    ],
    ids=["whole", "cut before its keys were taken out", "cut, and nothing is left"],
)
def test_a_cut_text_stays_recognisable(text: str, stored: str) -> None:
    """A text that was cut when it was captured is as long as the limit, whatever redaction took from it."""
    assert clean_text(text, redacted=True, max_chars=50) == stored


REDACTED = [
    ("ask ann.lee+x@mail.example.co.uk now", "ask [E-MAIL] now"),
    ("card 4111 1111 1111 1111 please", "card [CARD] please"),
    ("card 4111-1111-1111-1111", "card [CARD]"),
    ("order 4111111111111112 is no card", "order 4111111111111112 is no card"),
    ("call +41 44 668 18 00.", "call [PHONE]."),
    ("call (030) 1234 5678", "call [PHONE]"),
    ("call 555-123-4567 today", "call [PHONE] today"),
    ("+491701234567", "[PHONE]"),
    ("key sk-proj-abcdefghij0123456789", "key [KEY]"),
    ("tk-abcdefghijkl-ABCDEFGHIJKLMNOPQRSTUVWXYZ012345", "[KEY]"),
    ("AKIAIOSFODNN7EXAMPLE", "[KEY]"),
    ("ghp_abcdefghijklmnopqrstuvwxyz0123456789", "[KEY]"),
    ("Authorization: Bearer abcdefghijklmnop123", "Authorization: [KEY]"),
    ("eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.sig_nature", "[KEY]"),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[KEY]"),
    ("in 2024 we sold 1,200 of 3.5 kg", "in 2024 we sold 1,200 of 3.5 kg"),
    ("on 2024-05-17 at 10:30", "on 2024-05-17 at 10:30"),
    ("risk-based task-oriented", "risk-based task-oriented"),
]


@pytest.mark.parametrize(("text", "clean"), REDACTED)
def test_redaction(text: str, clean: str) -> None:
    """Addresses, cards, telephone numbers and keys go; dates, amounts and words stay."""
    assert redact(text) == clean


@given(st.text(), st.text())
def test_an_address_never_survives(before: str, after: str) -> None:
    """Whatever stands around it, an e-mail address is not in the redacted text."""
    assert "ann@example.com" not in redact(f"{before} ann@example.com {after}")


@pytest.mark.parametrize("text", ["1 " * 20_000, "a" * 60_000 + "@", "-----BEGIN PRIVATE KEY-----" * 2000])
def test_hostile_text_is_no_heavier_than_long_text(text: str) -> None:
    """Patterns stay linear: such texts finish within the suite's timeout many times over."""
    assert isinstance(redact(text), str)


def wanted(text: str) -> Expected:
    """An answer that was to be an object."""
    expected = Expected({"type": "object"})
    expected.take(text, ())
    return expected


def test_answers_are_checked_before_they_are_stored() -> None:
    """The verdict is in the row, once it can be stored, and the text is let go of."""

    async def run() -> None:
        requests = FakeRequests()
        there = recorder(requests)
        answers = [wanted("{}"), wanted("[]"), wanted("{}")]
        for number, (expected, status) in enumerate(zip(answers, (200, 200, 499), strict=True)):
            there.put(row(number, status=status), expected=expected)
        requests.down = True
        assert not await there._write_batch()
        requests.down = False
        await there.flush()
        assert [stored.schema_valid for stored in requests.rows.values()] == [True, False, None]
        assert [expected.chars for expected in answers] == [0, 0, 0]

    asyncio.run(run())


def test_texts_that_wait_to_be_checked_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond so many characters answers are stored unchecked; there is room again once others are done."""
    monkeypatch.setattr(recording, "MAX_WAITING_CHARS", 10)

    async def run() -> None:
        requests = FakeRequests()
        there = recorder(requests)
        for number, text in enumerate(("{       }", "{}", "[")):
            there.put(row(number, status=200), expected=wanted(text))
        await there.flush()
        there.put(row(3, status=200), expected=wanted("{        }"))
        await there.flush()
        assert [stored.schema_valid for stored in requests.rows.values()] == [True, None, False, True]

    asyncio.run(run())


class FakeTombstones:
    """Tombstones of one pseudonym, and a store of them that can be down."""

    def __init__(self, *units: str) -> None:
        self.buried = {unit_hash(PEPPER, unit): 4e9 for unit in units}
        self.down = False

    def units(self, *, since: float) -> dict[str, dict[str, float]]:
        if self.down:
            raise StoreUnavailable("down")
        return {id_of(PEPPER): {key: until for key, until in self.buried.items() if until >= since}}


def test_who_is_forgotten_is_not_written_late() -> None:
    """Neither a row that waited while they were forgotten, nor one that was written at that very moment."""

    async def run() -> None:
        requests, tombstones = FakeRequests(), FakeTombstones("ann")
        guard = Guard(tombstones, Peppers(PEPPER))  # type: ignore[arg-type]  # as much of it as is asked
        there = recorder(requests, forgotten=guard)  # type: ignore[arg-type]  # no limit
        there.put(row(1, unit="ann"))
        there.put(row(2, unit="bob"))
        there.put(row(3))
        await there.flush()
        assert sorted(requests.rows) == ["req-2", "req-3"]
        tombstones.down = True  # what can't be checked is written, and looked at when it can
        there.put(row(4, unit="ann"))
        there.put(row(5, unit="bob"))
        await there.flush()
        assert sorted(requests.rows) == ["req-2", "req-3", "req-4", "req-5"]
        tombstones.down = False
        there.put(row(6))
        await there.flush()
        assert sorted(requests.rows) == ["req-2", "req-3", "req-5", "req-6"]

    asyncio.run(run())
