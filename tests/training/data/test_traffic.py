"""Recorded traffic, read from the gateway's own databases."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.requests import RequestRow
from gateway.core.routes import RouteSpec
from gateway.store.control import ControlStore
from gateway.store.database import Database, StoreUnavailable
from gateway.store.feedback import FeedbackRow
from gateway.store.golden import GoldenRow
from gateway.store.requests import Requests
from gateway.store.shadows import Pair
from training.data.check import CheckOptions
from training.data.prepare import PrepareOptions, prepare
from training.data.reading import read_dataset
from training.data.rows import DataError, Example, Preference, Rated
from training.data.splits import Shares
from training.data.subjects import split_of
from training.data.traffic import Traffic, as_messages


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[tuple[ControlStore, Requests, Traffic]]:
    """Two databases in a folder, and where they are."""
    urls = [f"sqlite:///{tmp_path / name}.db" for name in ("control", "requests")]
    with closing(Database(urls[0], "control")) as control, closing(Database(urls[1], "requests")) as requests:
        control.migrate()
        requests.migrate()
        yield ControlStore(control), Requests(requests), Traffic(*urls)


def request(
    number: int, prompt: str | None = "hi", answer: str | None = "ho", **changes: object
) -> RequestRow:
    """Return one recorded request of the route `support`."""
    values: dict[str, object] = {
        "id": f"req-{number}",
        "at": 1000.0 + number,
        "endpoint": "chat/completions",
        "route": "support",
        "adapter": "support@1",
        "status": 200,
        "finish_reason": "stop",
        "prompt": prompt,
        "answer": answer,
        **changes,
    }
    return RequestRow(**values)  # type: ignore[arg-type]


def rating(
    number: int, metric: str, value: bool | float | str, *, at: float = 0.0, **changes: object
) -> FeedbackRow:
    """Return one rating of a request."""
    return FeedbackRow(
        f"req-{number}", "support", "support@1", None, metric, value, None, "k", at=at or 5000.0, **changes
    )  # type: ignore[arg-type]


def read(traffic: Traffic, **options: object) -> list[object]:
    """Return the rows of the route."""
    return list(read_dataset("turnout:support", traffic=traffic, **options).rows)  # type: ignore[arg-type]


def test_demonstrations_become_examples(fleet: tuple[ControlStore, Requests, Traffic]) -> None:
    """The prompt is the recorded one, the answer what should have been given; who and when are columns."""
    store, requests, traffic = fleet
    requests.write([request(1, unit="u1"), request(2, "user: a\nassistant: b\nuser: c")])
    store.feedback.add(rating(1, "demonstration", "better"), rating(2, "demonstration", "d"))
    first, second = read(traffic)
    assert isinstance(first, Example)
    assert first.messages == ({"role": "user", "content": "hi"},)
    assert (first.completion, first.line) == ("better", 1)
    assert first.columns == {
        "request": "req-1",
        "route": "support",
        "version": "support@1",
        "at": "1970-01-01T00:16:41+00:00",
        "unit": "u1",
    }
    assert isinstance(second, Example)
    assert [message["role"] for message in second.messages] == ["user", "assistant", "user"]


def test_the_last_rating_counts_and_internal_requests_never(
    fleet: tuple[ControlStore, Requests, Traffic],
) -> None:
    """A load test that rates itself teaches nothing."""
    store, requests, traffic = fleet
    requests.write([request(1), request(2, internal=True), request(3, None, None)])
    store.feedback.add(rating(1, "thumbs", value=True, at=10.0), rating(1, "thumbs", value=False, at=20.0))
    store.feedback.add(rating(2, "thumbs", value=True, internal=True), rating(3, "thumbs", value=True))
    (row,) = read(traffic)
    assert isinstance(row, Rated)
    assert row.liked is False


def test_what_can_not_be_learned_from_is_left_out_and_counted(
    fleet: tuple[ControlStore, Requests, Traffic],
) -> None:
    """Cut texts, errors, completions and tools, each with its reason; a demonstration is kept."""
    store, requests, traffic = fleet
    requests.write(
        [
            request(1),
            request(2, finish_reason="length"),
            request(3, status=499),
            request(4, endpoint="completions"),
            request(5, "x" * 8000),
            request(6, "user: a\ntool: b\nuser: c"),
            request(7, answer="y" * 8000),
            request(8, "  "),
        ]
    )
    store.feedback.add(*(rating(number, "thumbs", value=True) for number in range(1, 9)))
    store.feedback.add(rating(2, "demonstration", "short"))
    found = read_dataset("turnout:support", traffic=traffic, kind="rated")
    assert [row.columns["request"] for row in found.rows] == ["req-1"]
    assert len(found.notes) == 7
    assert "1 recorded answers left out: cut at the limit of tokens" in found.notes
    shown = read_dataset("turnout:support", traffic=traffic, kind="examples")
    assert [row.columns["request"] for row in shown.rows] == ["req-2"]


def test_a_shadows_answer_that_was_cut_is_compared_with_nothing(
    fleet: tuple[ControlStore, Requests, Traffic],
) -> None:
    """At the limit of tokens or when it was recorded: it is neither chosen nor rejected, and is counted."""
    store, requests, traffic = fleet
    traffic = replace(traffic, max_text_chars=40)
    shadows = [("s-1", "whole", "stop"), ("s-2", "breaks off in the", "length"), ("s-3", "y" * 40, "stop")]
    requests.write([request(number, f"hi {number}") for number in (1, 2, 3)])
    for number, (shadow, said, reason) in enumerate(shadows, start=1):
        pair = Pair(
            f"req-{number}", shadow, 1000.0 + number, "chat/completions", "support", "support@1", "support@2",
            f"hi {number}", "ho", said, 200, None, "stop", reason, 1, 1, 1.0, 1.0,
        )  # fmt: skip
        requests.pairs.add(pair)
        theirs = replace(rating(number, "thumbs", value=True, internal=True), request_id=shadow)
        store.feedback.add(rating(number, "thumbs", value=False), theirs)
    found = read_dataset("turnout:support", traffic=traffic, kind="preferences")
    assert [(row.chosen, row.rejected) for row in found.rows if isinstance(row, Preference)] == [
        ("whole", "ho")
    ]
    assert sorted(found.notes) == [
        "1 recorded shadows' answers left out: cut at the limit of tokens",
        "1 recorded shadows' answers left out: cut when recorded, at 40 characters",
    ]


@pytest.mark.parametrize(
    ("choice", "wanted"),
    [
        ({"since": 1002.0}, ["req-2", "req-3"]),
        ({"until": 1002.0}, ["req-1"]),
        ({"version": "support@2"}, ["req-3"]),
        ({"version": "2"}, ["req-3"]),
    ],
)
def test_a_part_of_the_traffic_is_chosen(
    fleet: tuple[ControlStore, Requests, Traffic], choice: dict[str, object], wanted: list[str]
) -> None:
    """By time, and by the version that answered."""
    from dataclasses import replace

    store, requests, traffic = fleet
    requests.write([request(1), request(2), request(3, adapter="support@2")])
    store.feedback.add(*(rating(number, "thumbs", value=True) for number in (1, 2, 3)))
    found = read_dataset("turnout:support", traffic=replace(traffic, **choice), kind="rated")  # type: ignore[arg-type]
    assert [row.columns["request"] for row in found.rows] == wanted


def test_many_requests_of_one_moment_are_each_read_once(
    fleet: tuple[ControlStore, Requests, Traffic], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pages that end within a moment neither lose nor repeat a row."""
    from training.data import traffic as module

    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 3)
    store, requests, traffic = fleet
    requests.write([request(number, at=1000.0 + number // 5) for number in range(17)])
    store.feedback.add(*(rating(number, "thumbs", value=True) for number in range(17)))
    found = read_dataset("turnout:support", traffic=traffic, kind="rated")
    assert sorted(row.columns["request"] for row in found.rows) == sorted(
        f"req-{number}" for number in range(17)
    )


def test_a_route_that_is_not_there_is_named(fleet: tuple[ControlStore, Requests, Traffic]) -> None:
    """So is a kind that traffic has none of."""
    with pytest.raises(DataError, match="there is no route 'support'"):
        read(fleet[2])
    with pytest.raises(DataError, match="no texts"):
        read(fleet[2], kind="texts")


def test_reading_makes_no_database(tmp_path: Path) -> None:
    """A wrong folder is an error, not an empty store."""
    traffic = Traffic(f"sqlite:///{tmp_path / 'c.db'}", f"sqlite:///{tmp_path / 'r.db'}")
    with pytest.raises(StoreUnavailable, match="there is no control database"):
        read(traffic)
    with pytest.raises(DataError, match="reads files only"):
        read_dataset("turnout:support")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("prompt", "roles"),
    [
        ("hi", ["user"]),
        ("Note: two\nuser: lines", ["user"]),
        ("user: a\nassistant: b\nuser: c", ["user", "assistant", "user"]),
        ("user: a\nuser: b", None),
        ("user: a\nassistant: b", None),
        ("user: a\nassistant: \nuser: c", None),
        ("user: a\ntool: b\nuser: c", None),
    ],
)
def test_recorded_conversations_become_messages(prompt: str, roles: list[str] | None) -> None:
    """Turns that can't be told apart are none."""
    found = as_messages(prompt)
    assert (None if found is None else [message["role"] for message in found]) == roles


def test_what_a_loop_judges_by_is_left_out(fleet: tuple[ControlStore, Requests, Traffic]) -> None:
    """A route with a loop keeps a fifth of its subjects, and its golden rows, from being learned by hand."""
    store, requests, traffic = fleet
    for number in range(100):
        requests.write([request(number, f"what is {number} times {number * 7}?", unit=f"u{number}")])
        store.feedback.add(rating(number, "demonstration", f"it is {number}"))
    arms = [{"adapter": "base", "share": 1}]
    store.routes.put("support", RouteSpec.model_validate({"arms": arms}), actor="t")
    assert len(read(traffic)) == 100
    store.routes.put("support", RouteSpec.model_validate({"arms": arms, "loop": {}}), actor="t")
    golden = GoldenRow("gold-1", "support", 1, [{"role": "user", "content": "what is 3 times 21?"}], "63", {})
    store.golden.add([golden], route="support", number=1, actor="t")
    held_out = {
        number
        for number in range(100)
        if split_of("support", unit=f"u{number}", key_id="", at=0.0) == "held_out"
    }
    found = read_dataset("turnout:support", traffic=traffic)
    assert {int(row.columns["unit"][1:]) for row in found.rows} == set(range(100)) - held_out
    assert (
        f"{len(held_out)} recorded requests left out: the route's loop judges by their subjects"
        in found.notes
    )
    prepared = prepare(
        "turnout:support",
        PrepareOptions(
            traffic=traffic, check=CheckOptions(near=None), shares=Shares(test=0.3), embeddings=False
        ),
    )
    assert 3 not in held_out
    assert [row for row in prepared.dataset.rows if row.columns["unit"] == "u3"] == []
    assert len(prepared.dataset.rows) == 99 - len(held_out)
