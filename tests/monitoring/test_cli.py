"""`turnout monitor run` on a store filled by the test."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from gateway.core.routes import Capture
from gateway.store.feedback import FeedbackRow
from monitoring.cli import app
from tests.monitoring.made import ROUTE, START, opened, put_route, request_rows, sentences


def _run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["run", "--state-dir", str(folder), *arguments])


def _fill(folder: Path, before: list[str], now: list[str], *, answer_chars: float = 80) -> None:
    with opened(folder) as (control, requests):
        put_route(control)
        requests.write(request_rows(before))
        requests.write(request_rows(now, first=len(before), answer_chars=answer_chars))


def _stored(folder: Path) -> list[tuple[str, str]]:
    with opened(folder) as (control, _):
        return [(row.route, row.verdict) for row in control.drift.latest()]


def _only(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    document: dict[str, Any] = orjson.loads(result.stdout)
    (outcome,) = document["routes"]
    return dict(outcome)


def test_too_little_data_is_a_verdict(tmp_path: Path) -> None:
    """A route with few rows gets a stored verdict without a report, and every route is checked by default."""
    _fill(tmp_path, ["hello"] * 12, [])
    with opened(tmp_path) as (control, _):
        put_route(control, "quiet", capture=Capture(mode="off"))
    result = _run(tmp_path)
    assert result.exit_code == 0
    assert "Route support: too little data for a verdict: 6 reference and 6 current rows" in " ".join(
        result.output.split()
    )
    assert "capture.mode" in result.output
    assert _stored(tmp_path) == [("quiet", "too_little_data"), ("support", "too_little_data")]
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nobody"], "no route nobody"),
        (["--reference-since", "yesterday"], "neither a time"),
        (["--reference-rows", "60", "--reference-until", "1h"], "not both"),
        (["--min-rows", "60", "--max-rows", "50"], "min-rows"),
        (["--reference-until", "1h", "--current-since", "2h"], "before the reference window ends"),
        (["--max-rows", "999999"], "5000"),
        (["--alpha", "0"], "0.002"),
    ],
)
def test_bad_usage_exits_2(tmp_path: Path, arguments: list[str], words: str) -> None:
    """What can't be asked for is refused with the reason, and nothing is stored."""
    _fill(tmp_path, [], [])
    result = _run(tmp_path, *arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.output.replace("│", " ").split())
    assert _stored(tmp_path) == []


@pytest.mark.parametrize("arguments", [[], ["--control-url", "nonsense"]])
def test_store_that_is_not_there_exits_1(tmp_path: Path, arguments: list[str]) -> None:
    """A missing database is named, and not made."""
    result = _run(tmp_path / "nowhere", *arguments)
    assert result.exit_code == 1
    assert "control database" in result.output
    assert not (tmp_path / "nowhere").exists()


def test_database_without_tables_exits_1(tmp_path: Path) -> None:
    """A file that is no store of ours is an error in words."""
    (tmp_path / "control.db").touch()
    (tmp_path / "requests.db").touch()
    result = _run(tmp_path)
    assert result.exit_code == 1
    assert "no such table" in result.output


@pytest.mark.slow
def test_module_is_the_command(tmp_path: Path) -> None:
    """`python -m monitoring` is a Typer app named as people type it, and finds the store by its variable."""
    _fill(tmp_path, ["hello"] * 4, [])
    environment = {**os.environ, "TURNOUT_STATE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "monitoring", "run", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert orjson.loads(done.stdout)["routes"][0]["verdict"] == "too_little_data"
    shown = subprocess.run(
        [sys.executable, "-m", "monitoring", "run", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "turnout monitor run" in shown.stdout


@pytest.mark.slow
def test_longer_prompts_are_drift_and_reported(tmp_path: Path) -> None:
    """A change of lengths is found, named, stored, and written as one self-contained page and as JSON."""
    before, now = sentences("films", 120, seed=1), sentences("films", 120, seed=2)
    _fill(tmp_path, before, [f"{text} And please explain why in detail." for text in now])
    with opened(tmp_path) as (control, _):
        for number in range(0, 240, 3):
            good = number < 120 or number % 2 == 0
            control.feedback.add(
                FeedbackRow(
                    f"req-{number}", ROUTE, "support@1", None, "thumbs", good, None, "key", at=START + number
                )
            )
    outcome = _only(_run(tmp_path, ROUTE, "--no-embeddings", "--json"))
    assert outcome["verdict"] == "drift"
    features = outcome["figures"]["features"]
    assert {name: figures["drifted"] for name, figures in features.items()} == {
        "prompt_chars": True,
        "answer_chars": False,
    }
    assert outcome["figures"]["feedback"]["verdict"] == "worse"
    assert _stored(tmp_path) == [(ROUTE, "drift")]
    page = Path(outcome["report_html"]).read_text(encoding="utf-8")
    assert "Drift report: route support" in page
    assert outcome["sentence"] in page
    assert "Data drift detected" not in page
    assert "Data drift not detected" not in page
    assert not re.search(r"<(script|link|img|iframe)[^>]*\s(src|href)=[\"']?(https?:)?//", page)
    assert now[0] not in page
    report = orjson.loads(Path(outcome["report_json"]).read_bytes())
    assert report["figures"] == outcome["figures"]
    assert {metric["config"]["column"] for metric in report["evidently"]["metrics"]} >= {
        "prompt_chars", "answer_chars", "latency_ms", "ttft_ms", "finish_reason", "feedback_thumbs",
    }  # fmt: skip
    assert sorted(path.suffix for path in (tmp_path / "reports" / ROUTE).iterdir()) == [".html", ".json"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("topic", "verdict", "drifted"), [("films", "no_drift", False), ("cooking", "drift", True)]
)
def test_topics_by_real_embeddings(tmp_path: Path, topic: str, verdict: str, drifted: bool) -> None:
    """Prompts on another topic are drift of the embeddings; more prompts on the same topic are not."""
    before, now = sentences("films", 80, seed=1), sentences("films", 80, seed=2)
    if topic == "cooking":
        now[40:] = sentences("cooking", 40, seed=3)
    _fill(tmp_path, before, now)
    outcome = _only(_run(tmp_path, "--json"))
    assert outcome["figures"]["features"]["embedding"]["drifted"] is drifted
    assert topic == "cooking" or outcome["verdict"] == verdict
    page = Path(outcome["report_html"]).read_text(encoding="utf-8")
    assert "embedding_witness" in page
    assert "MMD" in page


@pytest.mark.slow
def test_people_get_a_table_and_a_sentence(tmp_path: Path) -> None:
    """The table, the verdict in words, the honest note and the report's place are printed."""
    _fill(tmp_path, sentences("films", 60, seed=1), sentences("films", 60, seed=2), answer_chars=200)
    result = _run(tmp_path, "--no-embeddings")
    shown = " ".join(result.output.split())
    assert result.exit_code == 0
    assert "Route support: drift between 60 reference and 60 current rows: answer_chars (D 1.00" in shown
    assert "One look at two windows" in shown
    assert "embedding was not tested: it was switched off." in shown
    assert f"report: {tmp_path / 'reports' / ROUTE}" in result.output
