"""Every panel's query, asked of a real Prometheus over a real gateway and controller under traffic."""

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests import fake_engine
from tests.monitoring.ops import house, shown
from tests.monitoring.ops.test_rules import tool

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
PATIENCE_S = 90.0
VALUES = {
    "$__rate_interval": "30s",
    "$__range": "5m",
    "$route": "support",
    "$name": "support",
    "$replica": ".*",
    "$price": "1.00",
}
EMPTY = {
    "fleet: Answers of the wrong version A": "no engine answers with another version here",
    "fleet: Sent again A": "no replica fails here, so nothing is sent again",
    "fleet: Refused at /admin A": "nobody without a right asks there",
    "fleet: Sent again E": "no route here has a fallback",
    "fleet: Lost by an engine and registered again A": "no engine loses a version here",
    "fleet: Failures A": "no replica dies here",
    "fleet: Failures B": "no circuit opens here",
    "fleet: Failures C": "every health check passes here",
    "fleet: Faults A": "the store does not fail here",
    "fleet: Faults B": "no fault is caught here",
    "fleet: Time in the queue by priority, p95 A": "no replica is full here",
    "adapter: Answers of another version A": "no engine answers with another version here",
}
"""The queries that have nothing to show while all is well, and why."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[house.Prometheus]:
    """Prometheus, with the service under traffic for as long as the tests of this file run."""
    program, folder = tool("prometheus"), tmp_path_factory.mktemp("live")
    with ExitStack() as stack:
        engines = [stack.enter_context(fake_engine.start(max_cpu_loras=2)) for _ in range(2)]
        for engine in engines:
            engine.knobs.all_metrics = True
            engine.knobs.token_delay_s = 0.002
        served = stack.enter_context(house.service(folder, *engines))
        stack.enter_context(house.traffic(served.url))
        agent = stack.enter_context(house.agent(folder, engines[0]))
        watched = folder / "state" / "engines.json"
        yield stack.enter_context(
            house.prometheus(program, folder / "prometheus", gateway=served.url, engines=watched, agent=agent)
        )


def test_every_panel_has_data(server: house.Prometheus) -> None:
    """Each query returns numbers, but for those that are known to be empty while all is well."""
    queries = {
        query.where: _filled(query.text)
        for name, page in shown.dashboards().items()
        for query in shown.panel_queries(name, page)
    }
    assert EMPTY.keys() <= queries.keys()
    pending = {where: text for where, text in queries.items() if where not in EMPTY}
    deadline = time.monotonic() + PATIENCE_S
    while pending and time.monotonic() < deadline:
        pending = {where: text for where, text in pending.items() if not _numbers(server.ask(text))}
        time.sleep(0.5)
    assert not pending, "\n".join(f"{where}: {text}" for where, text in pending.items())
    for where in EMPTY:
        server.ask(queries[where])  # empty, but not refused


def test_every_variable_has_values(server: house.Prometheus) -> None:
    """Each variable that is looked up finds something to choose from."""
    for page in shown.dashboards().values():
        for metric, label in shown.variables(page):
            assert server.ask(f"count by ({label}) ({metric})")


def test_every_rule_can_be_evaluated(server: house.Prometheus) -> None:
    """No rule is refused or fails while there is data."""
    for query in shown.rule_queries():
        server.ask(query.text)


def _numbers(series: list[dict[str, Any]]) -> bool:
    """Whether a series has a value: a quantile of nothing is a series without."""
    return any(each["value"][1] != "NaN" for each in series)


def _filled(query: str) -> str:
    for variable, value in VALUES.items():
        query = query.replace(variable, value)
    assert not re.search(r"\$\w", query), query
    return query
