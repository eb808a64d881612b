"""Reports of the watch: pages, documents, Evidently's workspace, and what is owed."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.store.watches import WatchRow, lease_name
from monitoring.watch import plots
from monitoring.watch.pages import Contents, write_pages
from monitoring.watch.reporter import WORKSPACE, Reporter, owed
from monitoring.watch.vectors import Vectors
from tests.monitoring.made import ROUTE
from tests.monitoring.watch.made import OPTIONS, House, house, one_language

FIGURES: dict[str, Any] = {
    "rows": {"reference": 200, "current": 100},
    "windows": {
        "reference": {"since": 1.0, "until": 5.0, "adapter": "support@1", "why": "promotion"},
        "current": {"since": 5.0, "until": 9.0},
    },
    "streams": {}, "ratings": {}, "stream": "", "evidence": 0.0, "threshold": 1.0, "effect": None,
    "severity": "ignore", "cause": "none", "change_at": None, "notes": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "found", "expected"),
    [
        ({"reported_at": 50.0}, {}, False),
        ({"reported_at": 50.0}, {"severity": "watch"}, True),
        ({"reported_at": 50.0, "severity": "watch"}, {"severity": "watch"}, False),
        ({"reported_at": 50.0, "severity": "watch"}, {"severity": "retrain"}, True),
        ({"reported_at": 50.0 - 2 * 86_400}, {}, True),
        ({}, {}, True),
        ({}, {"rows": {"reference": 200, "current": 3}}, False),
    ],
)
def test_when_a_report_is_owed(before: dict[str, Any], found: dict[str, Any], expected: bool) -> None:
    """A change for the worse owes one, and the passing of time does when there is something to show."""
    row = WatchRow(ROUTE, adapter="support@1", figures=before)
    options = replace(OPTIONS, report_every_s=86_400)
    assert (owed(row, {**FIGURES, **found}, at=100.0, options=options) is not None) is expected


def test_a_report_is_of_what_came_since_the_change() -> None:
    """Where the detector says when the change began, the current rows are those since; debts stay."""
    row = WatchRow(ROUTE, adapter="support@1")
    debt = owed(row, {**FIGURES, "change_at": 7.0}, at=100.0, options=OPTIONS)
    assert debt is not None
    assert debt["current"] == [ROUTE, 7.0, 9.0, "support@1"]
    later = replace(row, figures={"owed": debt})
    assert owed(later, {"windows": {}}, at=200.0, options=OPTIONS) == debt


def test_old_pages_go(tmp_path: Path) -> None:
    """So many reports are kept; a page that is written again replaces itself; other files stay."""
    (tmp_path / "20260101T000000Z.html").touch()
    for at in (1.0, 2.0, 3.0, 3.0):
        contents = Contents(ROUTE, at, "A <b> sentence", FIGURES, (), None)
        paths = write_pages(tmp_path, contents, None, keep=2)
    assert len(list(tmp_path.glob("watch-*.html"))) == len(list(tmp_path.glob("watch-*.json"))) == 2
    assert (tmp_path / "20260101T000000Z.html").exists()
    assert "A &lt;b&gt; sentence" in paths.html.read_text()
    assert tmp_path.stat().st_mode & 0o777


@pytest.fixture(scope="module")
def alarmed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[House, Path]]:
    """A route whose last look was an alarm, since half of its prompts are about cooking now."""
    with house(tmp_path_factory.mktemp("state")) as made:
        made.traffic("films", days=3, a_day=200, seed=1)
        made.look()
        made.traffic("films", days=0.5, a_day=200, seed=2)
        made.traffic("cooking", days=0.5, a_day=800, seed=3)
        assert made.look().figures["severity"] == "retrain"
        yield made, tmp_path_factory.mktemp("reports")


def _reporter(made: House, folder: Path) -> Reporter:
    vectors = Vectors(made.requests.embeddings, made.encoder)
    return Reporter(
        made.control, made.requests, vectors, folder=folder, options=made.options, languages=one_language
    )


def _write(made: House, folder: Path) -> None:
    epoch = made.control.fleet.acquire(lease_name(ROUTE), "me", ttl_s=600)
    assert epoch is not None
    _reporter(made, folder).write_owed(ROUTE, epoch=epoch)


@pytest.mark.slow
def test_an_alarm_is_reported(alarmed: tuple[House, Path]) -> None:
    """Its page has our sentence, the topics and their texts; Evidently's workspace has a run."""
    made, folder = alarmed
    stood = made.control.watches.get(ROUTE)
    assert stood is not None
    assert stood.figures["owed"]
    _write(made, folder)
    row = next(row for row in made.control.drift.rows(ROUTE) if row.severity == "retrain")
    assert row.report_html is not None
    assert row.report_json is not None
    page = Path(row.report_html).read_text(encoding="utf-8")
    assert "Drift watch: route support" in page
    assert "What is least like the reference" in page
    assert "rift detected" not in page
    assert "rift not detected" not in page
    document = orjson.loads(Path(row.report_json).read_bytes())
    texts = [each["prompt"] for topic in document["topics"] for each in topic["rows"]]
    assert texts
    assert any("recipe" in text or "cake" in text or "stew" in text for text in texts)
    drawn = {metric["config"].get("column") for metric in document["evidently"]["metrics"]}
    assert drawn >= {"novelty", "prompt_chars", "words", "language", "prompt"}
    from evidently.ui.workspace import Workspace

    workspace = Workspace(str(folder / WORKSPACE))
    (project,) = workspace.list_projects()
    assert project is not None
    assert project.name == ROUTE
    (run,) = workspace.list_runs(project.id)
    assert workspace.get_run(project.id, run) is not None
    stood = made.control.watches.get(ROUTE)
    assert stood is not None
    assert stood.figures["owed"] is None
    assert stood.figures["reported_at"] == row.at
    _write(made, folder)  # nothing is owed any more
    assert len(workspace.list_runs(project.id)) == 1


@pytest.mark.slow
def test_plots_that_fail_stop_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The decision stands, the note says why there is no report, and it is not tried for ever."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a column of it")

    monkeypatch.setattr(plots, "draw", broken)
    with house(tmp_path) as made:
        made.traffic("films", days=4, a_day=100, seed=1)
        made.look()
        _write(made, tmp_path / "reports")
        stood = made.control.watches.get(ROUTE)
        assert stood is not None
        assert stood.figures["owed"] is None
        assert "a column of it" in stood.figures["notes"][-1]
        assert made.control.drift.rows(ROUTE, limit=1)[0].report_html is None
