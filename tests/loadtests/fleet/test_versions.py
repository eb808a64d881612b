"""`bench-versions`: the stores that it makes, and what its figures say."""

from pathlib import Path

import pytest

from gateway.core.routes import Capture
from gateway.routing.table import build
from loadtests.fleet.versions import FULL, figures_of, in_process, met, prepare, sheet_of


def test_a_store_with_many_versions(tmp_path: Path) -> None:
    """Versions are spread over the names, each with an active route to its newest."""
    house = prepare(tmp_path / "x", count=25, name_count=10)
    with house.store() as store:
        table = build(store.snapshot(), base_model="m", default_capture=Capture())
        assert len(table.versions) == 25
        assert len(table.routes) == 10
        assert {route.arms[0].adapter for route in table.routes.values()} <= set(map(str, table.versions))
        assert table.routes["adapter-00000"].arms[0].adapter == "adapter-00000@3"
    assert set(in_process(house)) >= {"table_first_ms", "resolve_pinned_us", "last_page_ms"}


@pytest.mark.parametrize(
    ("start_s", "resolve_us", "good"),
    [(2.9, 1.2, True), (4.1, 1.0, False), (1.0, 1.5, False)],
    ids=["within", "a start too late", "resolving slower"],
)
def test_what_the_figures_say(start_s: float, resolve_us: float, good: bool) -> None:
    """Starts may take 3 s more with many versions, and resolving what it took."""
    names = ("gateway_start_s", "controller_start_s", "table_first_ms")
    found = {name: {"10": [1.0, 2.0, 9.0], "10000": [start_s, start_s + 5]} for name in names}
    for name in ("resolve_route_us", "resolve_pinned_us"):
        found[name] = {"10": [1.0], "10000": [resolve_us]}
    figures = figures_of(found, dict(FULL))
    assert figures["added_start_s"]["gateway"] == pytest.approx(start_s - 1.0)
    assert figures["resolve_ratio"] == resolve_us
    assert met(figures) is good
    assert sheet_of(figures, dict(FULL)).rows[0][0] == "gateway start s"
