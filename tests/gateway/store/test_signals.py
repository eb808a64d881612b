"""Signals of a period of recorded requests."""

from typing import Any

from gateway.core.requests import RequestRow
from gateway.core.signals import ASKED_AGAIN
from gateway.store.requests import Requests


def test_signals_of_a_period(requests: Requests) -> None:
    """Requests of the period have signals, also by what came after; internal ones and other routes none."""

    def row(number: int, **fields: Any) -> RequestRow:
        plain: dict[str, Any] = {"route": "r", "arm": "a@1", "adapter": "a@1", "status": 200, "unit": "u"}
        return RequestRow(**{"id": f"q{number}", "at": float(number), "endpoint": "chat", **plain, **fields})

    requests.write([row(1), row(20), row(100), row(101, internal=True), row(102, route="s")])
    found = requests.signals("r", since=2.0, until=101.5)
    assert [(one.request_id, one.metric, one.value) for one in found] == [
        ("q20", ASKED_AGAIN, False),
        ("q100", ASKED_AGAIN, False),
    ]
    assert [one.value for one in requests.signals("r", since=0.0, until=2.0)] == [True]
    assert [one.request_id for one in requests.signals("r", since=0.0, limit=1)] == ["q100"]
    assert requests.signals("none", since=0.0) == []
