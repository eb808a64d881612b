"""What `/metrics` says of the loop's runs and of golden sets."""

import asyncio
from pathlib import Path

from gateway.api.loop_metrics import LoopMetrics
from gateway.api.store_metrics import StoreMetrics
from gateway.gauge_rules import GAUGE_RULES
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.loop_figures import LoopFigures
from gateway.telemetry import Telemetry
from tests.gateway.loops import made


def test_what_asks_for_somebody() -> None:
    """A gauge for each route; every worker reads the same, so that one of them speaks for all."""
    figures = LoopFigures(gate_failures=(("r", 3), ("s", 1)), golden_left=(("r", -1),))
    families = list(LoopMetrics(lambda: figures).collect())
    found = {
        (sample.name.removeprefix("turnout_loop_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }
    assert found == {
        ("gate_failures_in_a_row", "r"): 3.0,
        ("gate_failures_in_a_row", "s"): 1.0,
        ("golden_uses_left", "r"): -1.0,
    }
    assert all(GAUGE_RULES[family.name] == "first" for family in families)


def test_what_was_read_stays_while_the_store_is_away(tmp_path: Path) -> None:
    """An alert does not end since nobody can look; the failure is counted."""
    database = Database(f"sqlite:///{tmp_path}/control.db", "control", durable=False)
    database.migrate()
    control, telemetry = ControlStore(database), Telemetry()
    stored = StoreMetrics(control, telemetry, every_s=0, counts=True)
    control.routes.put("support", made.route(loop=made.policy(golden_uses=1)).spec, actor="ada")
    control.golden.rotate("support", actor="ada")
    control.golden.use("support", 1, run="loop-1")
    refused = control.loops.begin(made.run(created_at=1.0))
    control.loops.change(refused, actor="loop", state="gate_failed", verdict="failed", ended_at=2.0)

    def scraped() -> tuple[float | None, float | None]:
        asyncio.run(stored.refresh())
        read, route = telemetry.registry.get_sample_value, {"route": "support"}
        return (
            read("turnout_loop_gate_failures_in_a_row", route),
            read("turnout_loop_golden_uses_left", route),
        )

    assert scraped() == (1.0, 0.0)
    with database.write() as connection:
        connection.exec_driver_sql("DROP TABLE golden_sets")
    assert scraped() == (1.0, 0.0)
    assert telemetry.registry.get_sample_value("turnout_store_errors_total", {"task": "metrics"}) == 1
    database.close()
