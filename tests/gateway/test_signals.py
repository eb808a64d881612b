"""Implicit signals, read from recorded requests."""

from typing import Any

import pytest

from gateway.core.signals import ABANDONED, ASKED_AGAIN, CUT_BY_LENGTH, Told, signals

AN_HOUR = 3600.0


def told(id_: str, at: float, **fields: Any) -> Told:
    """A whole answer of one second to the subject `u`."""
    plain = {
        "id": id_, "at": at, "route": "r", "adapter": "a@1", "arm": "a@1", "unit": "u", "status": 200,
        "streamed": False, "finish_reason": "stop", "latency_ms": 1000.0,
    }  # fmt: skip
    return Told(**{**plain, **fields})


def values(rows: list[Told], metric: str, *, until: float = AN_HOUR) -> dict[str, bool]:
    """The values of one signal by request."""
    return {found.request_id: found.value for found in signals(rows, until=until) if found.metric == metric}


@pytest.mark.parametrize(
    ("second", "again"),
    [
        (told("q2", 10.0), True),
        (told("q2", 61.0), True),
        (told("q2", 61.1), False),
        (told("q2", 0.5), False),
        (told("q2", 10.0, unit="v"), False),
        (told("q2", 10.0, unit=None), False),
        (told("q2", 10.0, status=503), True),
        (told("q2", 10.0, arm="a@2", adapter="a@2"), True),
    ],
)
def test_asked_again(second: Told, again: bool) -> None:
    """The same subject's next request counts, whatever became of it, within a minute of the answer's end."""
    assert values([told("q1", 0.0), second], ASKED_AGAIN)["q1"] is again


def test_who_asks_again_is_open_for_a_minute() -> None:
    """Before the minute is over there is no value, unless they have asked already; without a subject none."""
    assert values([told("q1", 0.0)], ASKED_AGAIN, until=60.9) == {}
    assert values([told("q1", 0.0)], ASKED_AGAIN, until=61.0) == {"q1": False}
    assert values([told("q1", 0.0), told("q2", 5.0)], ASKED_AGAIN, until=7.0) == {"q1": True}
    assert values([told("q1", 0.0, unit=None)], ASKED_AGAIN) == {}


def test_several_at_once_are_not_asked_again() -> None:
    """Requests that run beside each other say nothing of each other; one after them counts for each."""
    rows = [told("q1", 0.0, latency_ms=0.0), told("q2", 0.0), told("q3", 0.2), told("q4", 3.0)]
    assert values(rows[:3], ASKED_AGAIN) == {"q1": True, "q2": False, "q3": False}
    assert values(rows, ASKED_AGAIN) == {"q1": True, "q2": True, "q3": True, "q4": False}


@pytest.mark.parametrize(
    ("fields", "abandoned", "cut"),
    [
        ({}, None, False),
        ({"streamed": True}, False, False),
        ({"streamed": True, "status": 499, "finish_reason": None}, True, None),
        ({"status": 499, "finish_reason": None}, None, None),
        ({"finish_reason": "length"}, None, True),
        ({"streamed": True, "status": 502, "finish_reason": "length"}, None, None),
        ({"status": 429, "finish_reason": None}, None, None),
    ],
)
def test_abandoned_and_cut(fields: dict[str, Any], abandoned: bool | None, cut: bool | None) -> None:
    """A stream is abandoned or not, a generation cut or not; what was not answered has no signal."""
    rows = [told("q1", 0.0, **fields)]
    assert values(rows, ABANDONED).get("q1") is abandoned
    assert values(rows, CUT_BY_LENGTH).get("q1") is cut
