"""Evidently's own page of a route: a person who opens it sees how drift went, without laying anything out."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from monitoring.watch import plots
from monitoring.watch.dashboard import TAB
from tests.e2e.conftest import free_port

pytestmark = pytest.mark.slow

ROWS = 40
START_S = 120


def table(seed: int, *, shift: float = 0.0) -> plots.Table:
    """Return a window of made prompts, `shift` standard deviations of novelty away."""
    draws = np.random.default_rng(seed)
    return plots.Table(
        {"novelty": draws.normal(size=ROWS) + shift, "prompt_chars": draws.normal(100, 10, size=ROWS)},
        {"language": [str(each) for each in draws.choice(["en", "de"], ROWS)]},
        [f"sentence {number} of a {'cake' if shift else 'film'}" for number in range(ROWS)],
    )


def draw(workspace: Path, number: int) -> None:
    """Draw the report of one day: each is further away than the one before."""
    at = 1_700_000_000.0 + 86_400 * number
    current = table(number + 1, shift=number)
    plots.draw("support", table(0), current, workspace=workspace, key=str(number), at=at, keep=10)


@contextmanager
def page(workspace: Path) -> Iterator[httpx.Client]:
    """Run `evidently ui` on a workspace, as docs/monitoring.md says, until the block ends."""
    port = free_port()
    tool = Path(sys.executable).parent / "evidently"
    process = subprocess.Popen(
        [str(tool), "ui", "--workspace", str(workspace), "--port", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "DO_NOT_TRACK": "1"},
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            deadline = time.monotonic() + START_S
            while True:
                try:
                    client.get("/api/projects").raise_for_status()
                    break
                except httpx.TransportError:
                    assert process.poll() is None
                    assert time.monotonic() < deadline
                    time.sleep(0.5)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def test_its_page_shows_how_drift_went(tmp_path: Path) -> None:
    """Every panel has a line for each column, with a point for each report; rising where drift rose."""
    for number in range(3):
        draw(tmp_path, number)
    with page(tmp_path) as client:
        (project,) = client.get("/api/projects").json()
        assert project["name"] == "support"
        board = client.get(f"/api/v2/dashboards/{project['id']}").json()
        (tab,) = board["tabs"]
        assert tab["title"] == TAB
        assert tab["panels"] == [panel["id"] for panel in board["panels"]]
        lines = {line["legend"]: line for panel in board["panels"] for line in panel["values"]}
        assert lines.keys() >= {"prompt", "novelty", "prompt_chars", "words", "language", "prompts"}
        found = {}
        for legend, line in lines.items():
            wanted = {name: line[name] for name in ("tags", "metadata", "metric", "metric_labels")}
            got = client.post(
                f"/api/v2/snapshots/{project['id']}/data_series_batch", json={"series_filter": [wanted]}
            )
            (series,) = got.raise_for_status().json()["series"]
            found[legend] = series["values"]
    assert all(len(values) == 3 for values in found.values())
    assert found["prompts"] == [ROWS] * 3
    assert found["novelty"][0] < found["novelty"][1] < found["novelty"][2]
    assert found["prompt"][0] < 0.8 < found["prompt"][2]


def test_a_persons_own_panels_stay(tmp_path: Path) -> None:
    """The next report changes nothing of a dashboard that someone has laid out."""
    from evidently.ui.workspace import Workspace

    draw(tmp_path, 0)
    workspace = Workspace(str(tmp_path))
    (project,) = workspace.list_projects()
    board = workspace.get_dashboard(project.id)
    workspace.save_dashboard(project.id, board.copy(update={"panels": board.panels[:1]}))
    draw(tmp_path, 1)
    assert len(Workspace(str(tmp_path)).get_dashboard(project.id).panels) == 1
