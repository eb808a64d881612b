"""`turnout limits`, and limits under `turnout keys`."""

import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.cli.limits import parse_limits
from tests.gateway.cli.conftest import Run, documents


@pytest.mark.slow
def test_limits_through_the_gateway(run: Run) -> None:
    """They are set, listed, shown and taken away; a key gets its own when it is made or later."""
    line = "limits set tenant shop --limit requests_per_minute=60 --limit weight=2 --limit priority=low"
    assert run(line).stdout == "tenant shop: requests_per_minute=60, weight=2, priority=low\n"
    assert run("limits set route support --limit tokens-per-day=1_000").exit_code == 0
    assert "tokens spent this day (UTC): 0" in run("limits show route support").stdout
    made = documents(run("keys create --json --limit concurrent=2"))
    assert made["limits"]["concurrent"] == 2
    assert run(f"keys limits {made['id']} --limit max_tokens=5").stdout.endswith(": max_tokens=5\n")
    assert "max_tokens=5" in run(f"keys show {made['id']}").stdout
    listed = documents(run("limits list --json"))["data"]
    assert [one["scope"] for one in listed] == ["key", "tenant", "route"]
    assert run("limits list").stdout.count("\n") == 4
    assert run(f"keys limits {made['id']} --none").exit_code == 0
    assert "no limits" in run(f"keys limits {made['id']}").stderr
    assert run("limits remove tenant shop").exit_code == 0
    refused = run("limits show tenant shop")
    assert (refused.exit_code, "no limits of its own" in refused.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("limits set tenant shop", 2),
        ("limits set planet mars --limit concurrent=1", 2),
        ("limits set tenant shop --limit concurrent", 2),
        ("limits set tenant shop --limit concurrent=many", 2),
        ("limits set tenant shop --limit concurrent=1 --limit concurrent=2", 2),
        ("limits set tenant shop --limit speed=1", 1),
        ("limits set route support --limit weight=2", 1),
        ("keys create --limit requests_per_minute=0", 1),
        ("keys limits abcdefghijkl --none --limit concurrent=1", 2),
    ],
)
def test_what_is_refused(run: Run, line: str, code: int) -> None:
    """What is not written as a limit is bad usage; what the gateway refuses is a failure."""
    assert run(line).exit_code == code


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=4))
def test_whatever_is_typed(given_: list[str]) -> None:
    """It is numbers by name, or bad usage."""
    try:
        wanted = parse_limits(given_)
    except typer.BadParameter:
        return
    assert all(isinstance(value, int | float | str) for value in wanted.values())
