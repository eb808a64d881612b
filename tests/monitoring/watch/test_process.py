"""The whole process of the watch: killed, doubled, without a store, told to end."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest
from sqlalchemy import update
from typer.testing import CliRunner

from gateway.store.schema import epochs, request_rows
from gateway.store.watches import WatchRow, lease_name
from monitoring.cli import app
from tests.monitoring.made import ROUTE, opened
from tests.monitoring.watch.made import DAY, House, house

pytestmark = pytest.mark.slow

PATIENCE_S = 60.0
OPTIONS = ("--min-rows", "200", "--min-days", "2", "--settle", "1")


@contextmanager
def watch(folder: Path, *arguments: str, log: str = "log") -> Iterator["subprocess.Popen[bytes]"]:
    """Run the process until the block ends."""
    command = [sys.executable, "-m", "tests.monitoring.watch.fake_watch", "watch", "--state-dir", str(folder)]
    with (folder / log).open("ab") as output:
        process = subprocess.Popen([*command, *OPTIONS, *arguments], stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.kill()
        process.wait(PATIENCE_S)


def until(condition: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def stands(made: House) -> WatchRow:
    """Where the route's watch stands."""
    return made.control.watches.get(ROUTE) or WatchRow(ROUTE)


def past(made: House) -> None:
    """Move the recorded days before the present: the process lives by the real clock."""
    behind = made.now - time.time() + 60
    with made.requests._database.write() as connection:
        connection.execute(update(request_rows).values(at=request_rows.c.at - behind))
    with made.control.database.write() as connection:
        connection.execute(update(epochs).values(at=epochs.c.at - behind - DAY))


def test_killed_again_and_again_it_counts_every_request_once(tmp_path: Path) -> None:
    """Killed while it works through days of requests, then ended by SIGTERM, it has counted each one once."""
    with house(tmp_path) as made:
        made.traffic("films", days=12, a_day=150, seed=1)
        past(made)
        for kill in range(3):
            with watch(tmp_path, "--every", "0.1", "--false-alarms", "0.001") as process:
                begun = stands(made).looks
                until(lambda begun=begun, kill=kill: stands(made).looks > begun + kill)  # type: ignore[misc]
                process.kill()
                assert process.wait(PATIENCE_S) == -signal.SIGKILL
        with watch(tmp_path, "--every", "0.1", "--false-alarms", "0.001") as process:
            until(lambda: sum(stands(made).figures.get("rows", {}).values()) == 1800)
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE_S) == 0
        assert stands(made).failed == 0
        assert {row.severity for row in made.control.drift.rows(ROUTE)} <= {"ignore", "watch"}


def test_two_watchers_never_look_at_once(tmp_path: Path) -> None:
    """With two processes on one route, each look follows the one before it."""
    with house(tmp_path) as made:
        made.traffic("films", days=3, a_day=100, seed=1)
        past(made)
        with watch(tmp_path, "--every", "0.1", log="a"), watch(tmp_path, "--every", "0.1", log="b"):
            until(lambda: stands(made).looks > 12)
        assert stands(made).failed == 0
        assert "Traceback" not in (tmp_path / "a").read_text() + (tmp_path / "b").read_text()
        assert sum(stands(made).figures["rows"].values()) == 300


def test_without_a_store_it_waits_and_says_so(tmp_path: Path) -> None:
    """It waits for a store that is not there yet, goes on when it is, and ends at once in the waiting."""
    state = tmp_path / "state"
    with watch(tmp_path, "--every", "0.1", "--state-dir", str(state)) as process:
        until(lambda: "waiting" in (tmp_path / "log").read_text())
        with house(state) as made:
            until(lambda: stands(made).looks > 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    said = (tmp_path / "log").read_text()
    assert re.search(r"does not answer .*there is no control database", said)
    assert "ended by a signal" in said
    assert "Traceback" not in said


def test_once_as_json(tmp_path: Path) -> None:
    """One round is one document and forgets routes that are gone; no such route is bad usage."""
    with house(tmp_path) as made:
        made.control.fleet.acquire(lease_name("gone"), "me", ttl_s=60)
        made.control.watches.commit(WatchRow("gone", looks=1, due_at=1.0), epoch=1)
    run = CliRunner().invoke
    found = run(app, ["watch", "--once", "--json", "--state-dir", str(tmp_path)])
    assert found.exit_code == 0, found.output
    (route,) = orjson.loads(found.stdout)["routes"]
    assert (route["route"], route["severity"]) == (ROUTE, "too_little_data")
    with opened(tmp_path) as (control, _):
        stood = control.watches.get(ROUTE)
        assert stood is not None
        assert stood.due_at is None
        assert control.watches.get("gone") is None
    assert run(app, ["watch", "nobody", "--once", "--state-dir", str(tmp_path)]).exit_code == 2
    assert run(app, ["watch", "--once", "--state-dir", str(tmp_path / "nowhere")]).exit_code == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["--every", "soon"],
        ["--every", "0"],
        ["--settle", "-1"],
        ["--reference-until", "1h"],
        ["--reference-since", "2d"],
        ["a", "b", "--reference-since", "2d"],
        ["a", "--reference-since", "1h", "--reference-until", "2h"],
        ["--min-rows", "3"],
    ],
)
def test_bad_usage(tmp_path: Path, arguments: list[str]) -> None:
    """What can't be asked for is refused before anything is opened."""
    found = CliRunner().invoke(app, ["watch", *arguments, "--once", "--state-dir", str(tmp_path)])
    assert found.exit_code == 2, found.output
