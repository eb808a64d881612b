"""Which rows are the reference and which are current."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.core.routes import Arm, RouteSpec
from gateway.store.control import ControlStore
from gateway.store.requests import Requests
from monitoring import windows
from monitoring.windows import ImpossibleWindows, WindowPlan, arms_active_since, read_windows
from tests.monitoring.made import ROUTE, START, activate, opened, put_route, request_rows

pytestmark = pytest.mark.slow

Stores = tuple[ControlStore, Requests]


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    """A migrated store."""
    with opened(tmp_path) as both:
        yield both


def _plan(**changes: float | None) -> WindowPlan:
    values: dict[str, float | None] = {"reference_since": 0.0, "now": START + 1e6, "max_rows": 10, **changes}
    return WindowPlan(origin="since then", **values)  # type: ignore[arg-type]


def _numbers(requests: Requests, plan: WindowPlan) -> tuple[list[int], list[int]]:
    found = read_windows(requests, ROUTE, plan)
    return (
        [int(row.id.removeprefix("req-")) for row in found.reference],
        [int(row.id.removeprefix("req-")) for row in found.current],
    )


@pytest.mark.parametrize(
    ("rows", "plan", "reference", "current"),
    [
        (0, {}, range(0), range(0)),
        (1, {}, range(0), range(1)),
        (7, {}, range(3), range(3, 7)),
        (20, {}, range(10), range(10, 20)),
        (35, {}, range(10), range(25, 35)),
        (35, {"reference_rows": 5}, range(5), range(25, 35)),
        (4, {"reference_rows": 5}, range(4), range(0)),
        (12, {"reference_rows": 5}, range(5), range(5, 12)),
        (35, {"reference_since": START + 20}, range(20, 27), range(27, 35)),
        (35, {"reference_until": START + 8}, range(8), range(25, 35)),
        (35, {"current_since": START + 30}, range(10), range(30, 35)),
        (35, {"reference_until": START + 4, "current_since": START + 30}, range(4), range(30, 35)),
        (35, {"current_since": START + 30, "reference_rows": 3}, range(3), range(30, 35)),
        (35, {"now": START + 15}, range(7), range(7, 15)),
    ],
)
def test_windows(
    stores: Stores, rows: int, plan: dict[str, float | None], reference: range, current: range
) -> None:
    """The reference is the oldest rows of its period, current the newest after it; they share none."""
    _, requests = stores
    requests.write(request_rows(["hello"] * rows))
    assert _numbers(requests, _plan(**plan)) == (list(reference), list(current))


@pytest.mark.parametrize(
    "plan",
    [
        {"reference_until": START + 9, "current_since": START + 8},
        {"reference_since": START + 9, "reference_until": START + 9},
        {"reference_until": START, "current_since": START + 1e7},
    ],
)
def test_windows_that_can_not_be(stores: Stores, plan: dict[str, float | None]) -> None:
    """Overlapping, empty and future windows are refused."""
    with pytest.raises(ImpossibleWindows):
        read_windows(stores[1], ROUTE, _plan(**plan))


def test_only_captured_prompts_of_the_route(stores: Stores) -> None:
    """Rows without text, of another route, and the gateway's own are left out."""
    _, requests = stores
    requests.write(request_rows(["a", None, "b", "c", "d"]))
    requests.write(request_rows(["x"], first=10, route="other"))
    requests.write(request_rows(["x"], first=11, internal=True))
    assert _numbers(requests, _plan()) == ([0, 2], [3, 4])


@pytest.mark.parametrize("spacing", [0.0, 0.25, 1.0])
def test_pages_miss_and_repeat_nothing(
    stores: Stores, monkeypatch: pytest.MonkeyPatch, spacing: float
) -> None:
    """Rows that share a time, even more than a page of them, are read once each."""
    monkeypatch.setattr(windows, "_ROWS_AT_ONCE", 7)
    _, requests = stores
    rows = request_rows(["hello"] * 60)
    for number, row in enumerate(rows):
        row.at = START + int(number * spacing)
    requests.write(rows)
    reference, current = _numbers(requests, _plan(max_rows=25))
    assert (len(reference), len(current)) == (25, 25)
    assert not set(reference) & set(current)


def test_newest_rows_are_found_far_back(stores: Stores) -> None:
    """A route that has been quiet for weeks still has its newest rows."""
    _, requests = stores
    requests.write(request_rows(["hello"] * 40))
    assert _numbers(requests, _plan(now=START + 4e6))[1] == list(range(30, 40))


def test_reference_begins_when_the_arms_became_active(stores: Stores) -> None:
    """The last change of what traffic meets counts; a change of state alone does not."""
    control, _ = stores
    put_route(control)
    route = control.routes.get(ROUTE)
    assert route is not None
    assert arms_active_since(control.events, route) is None
    activate(control)
    second = activate(control, arm="support@2")
    control.routes.put(ROUTE, RouteSpec(arms=(Arm(adapter="support@2", share=1),)), actor="test")
    for number in range(120):  # more than a page of events
        control.events.add(actor="test", action="note", subject=ROUTE, why=str(number))
    route = control.routes.get(ROUTE)
    assert route is not None
    assert arms_active_since(control.events, route) == second
