"""The rules: current, each alert complete and tested for both outcomes, and accepted by promtool."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.routing.watcher import STALE_S
from gateway.telemetry import _FIRST_TOKENS_S, _GAPS_S
from monitoring.prometheus.__main__ import SLO_RULES, rendered
from monitoring.prometheus.slos import BURNS, GAP_S, SLOS, TTFT_S
from tests.monitoring.ops import promql, shown

ALERTS = shown.alerts()
CASES = sorted((shown.PROMETHEUS / "tests").glob("*.yaml"))


def tool(name: str) -> str:
    """Find one of Prometheus' programs, or skip the test and say so."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        pytest.skip(f"NOT TESTED: there is no {name} here; `make setup` fetches it where apt-get can")
    return found


def test_the_made_rules_are_current() -> None:
    """rules/slo.yaml is what the promises say; `make dashboards` writes it."""
    assert SLO_RULES.read_text(encoding="utf-8") == rendered()


def test_promises_lie_on_buckets() -> None:
    """A promise about a time is a bucket of its histogram: between two, nothing can be counted."""
    assert TTFT_S in _FIRST_TOKENS_S
    assert GAP_S in _GAPS_S
    for slo in SLOS:  # the fastest burn must be possible at all
        assert BURNS[0].rate * (1 - slo.objective) < 1


def test_the_table_is_overdue_when_the_gateway_says_so() -> None:
    """The alert's bound is the age at which the gateway begins to refuse."""
    (rule,) = ALERTS["TurnoutTableOverdue"]
    assert rule["expr"].endswith(f"> {STALE_S:g}")


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_is_complete(name: str) -> None:
    """Each has a severity, a summary, a description with a number or a name, and a runbook that names it."""
    for rule in ALERTS[name]:
        assert rule["labels"]["severity"] in ("page", "ticket")
        said = rule["annotations"]
        assert said.keys() == {"summary", "description", "runbook_url"}
        assert "{{" in said["description"] or name == "TurnoutNoReplica"
        page = shown.ROOT / said["runbook_url"]
        assert page.parent == shown.RUNBOOKS
        assert f"`{name}`" in page.read_text()
        assert f"`{name}`" in (shown.RUNBOOKS / "README.md").read_text()


def test_every_alert_is_tested_for_both_outcomes() -> None:
    """Some case makes it fire, and some case has all its metrics and does not."""
    fires: set[str] = set()
    quiet: dict[str, set[str]] = {}
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            there = {re.split(r"[{ ]", series["series"])[0] for series in case["input_series"]}
            for test in case["promql_expr_test"]:
                now = set(re.findall(r'alertname="(\w+)"', str(test["exp_samples"])))
                fires |= now
                for name in ALERTS.keys() - now:
                    quiet.setdefault(name, set()).update(there)
    assert fires == ALERTS.keys()
    for name, rules in ALERTS.items():
        asked = {metric for rule in rules for metric in promql.names(promql.parse(rule["expr"]))}
        assert {metric for metric in asked if not metric.startswith("turnout:")} <= quiet[name]


@pytest.mark.slow
def test_prometheus_takes_the_configuration() -> None:
    """`promtool check` accepts the example configuration with all rules."""
    _promtool("check", "config", "--syntax-only", str(shown.PROMETHEUS / "prometheus.yml"))
    done = _promtool("check", "rules", *map(str, sorted((shown.PROMETHEUS / "rules").glob("*.yaml"))))
    assert "SUCCESS" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("path", CASES, ids=lambda path: path.stem)
def test_the_rules_do_what_their_cases_say(path: Path) -> None:
    """`promtool test rules`: what fires and what stays silent."""
    _promtool("test", "rules", str(path))


def _promtool(*arguments: str) -> Any:
    done = subprocess.run(
        [tool("promtool"), *arguments], capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done
