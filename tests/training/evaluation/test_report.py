"""Findings, and the three forms of a report."""

import io
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from training.data.rows import Example
from training.evaluation.compare import EXAMPLES, findings, groups_of
from training.evaluation.judged import Judged, task_of
from training.evaluation.keeping import keep
from training.evaluation.page import page
from training.evaluation.parity import Parity
from training.evaluation.preference import Pair, add_up
from training.evaluation.report import Report
from training.evaluation.resampling import Interval
from training.evaluation.slices import slices_of
from training.evaluation.systems import System
from training.evaluation.table import parts

EVIL = "<script>alert(1)</script> $x^2$ [red]\x1b[31m"


def rows() -> list[Example]:
    """Return 240 rows of two labels and two products, by eighty users."""
    return [
        Example(
            ({"role": "user", "content": f"{EVIL} {number}" + "x" * (number % 90)},),
            "ab"[number % 2],
            line=number + 1,
            columns={"product": f"{EVIL}{number % 2}", "user": str(number // 3)},
        )
        for number in range(240)
    ]


def system(name: str, share: float, seed: int, *, sure: bool = True) -> Judged:
    """Return a system that is right so often."""
    generator = np.random.default_rng(seed)
    right = generator.random(240) < share
    answers = tuple(
        row.completion if hit else "ab".replace(row.completion, "")
        for row, hit in zip(rows(), right, strict=True)
    )
    chances = np.array([[0.8, 0.2] if answer == "a" else [0.2, 0.8] for answer in answers])
    return Judged(
        name,
        "version",
        (answers,),
        nats=generator.random(240) if sure else None,
        tokens=np.ones(240) if sure else None,
        chances=chances if sure else None,
    )


@pytest.fixture(scope="module")
def report() -> Report:
    """A report with everything in it."""
    some = rows()
    task = task_of(some, some)
    judged = [
        system("one@2", 0.9, 1),
        system("one@1", 0.7, 2),
        system("base", 0.5, 3),
        system(EVIL, 0.9, 5, sure=False),
    ]
    parity = Parity(
        "one@2", f"http://{EVIL}", 24, 0.2, 0.01, 0.01, Interval(0.5, 0.3, 0.7), off="it is the base"
    )
    verdicts = add_up(
        [Pair("first", "second"), Pair("first", "first"), None],
        judge=EVIL,
        against="one@1",
        malformed=1,
        groups=[0, 1, 2],
        seed=1,
        note=EVIL,
    )
    return Report(
        candidate="one@2",
        rival="one@1",
        source=f"{EVIL}.jsonl",
        systems=(System("one@2"), System("one@1", in_production=True), System("base")),
        findings=findings(
            judged,
            some,
            task,
            slices=slices_of(some, ["product"]),
            group="user",
            margin=0.05,
            seed=1,
            rival="one@1",
        ),
        parity=(parity, Parity("one@1", "http://x", failed="no such model")),
        preferences=verdicts,
        settings={"instruction": EVIL},
        notes=(EVIL,),
        created_at=1.7e9,
        code_version="v",
        command=f"turnout evaluate {EVIL}",
    )


def printed(report: Report) -> str:
    """Return what the terminal shows."""
    console = Console(file=io.StringIO(), width=200, force_terminal=True, highlight=False)
    for part in parts(report):
        console.print(part)
    shown = console.file
    assert isinstance(shown, io.StringIO)
    return shown.getvalue()


def test_every_system_is_compared_with_the_candidate(report: Report) -> None:
    """Verdicts by interval, p-values, and how many rows would do where these did not."""
    found = report.findings
    main = {each.against: each for each in report.main()}
    assert (found.rows, found.units, found.primary) == (240, 80, "accuracy")
    assert (main["one@1"].verdict, main["base"].verdict) == ("better", "better")
    assert main[EVIL].verdict in ("cannot tell", "equal")
    assert (main[EVIL].rows_needed or 0) > 100
    assert main["base"].p_value < 0.001
    assert {each.metric for each in found.differences if each.against == "base"} >= {"f1", "loss", "ece"}
    assert found.now_right - found.now_wrong == pytest.approx(240 * main["one@1"].gap.value)
    assert sum(each.now_right for each in found.changed) == min(EXAMPLES, found.now_right)
    assert {each.system for each in found.reliability} == {"one@2", "one@1", "base"}


def test_slices_are_in_the_findings(report: Report) -> None:
    """By the field and by length, each metric; the worst one is named."""
    names = {each.name for each in report.findings.slices}
    assert len(names) == 5
    weak, harmed = report.weakest_slice(), report.most_harmed_slice()
    assert weak is not None
    assert harmed is not None
    assert {weak.name, harmed.name} <= names


def test_the_document_is_json_with_everything(report: Report) -> None:
    """It can be read back, and holds what the other forms show."""
    document = json.loads(json.dumps(report.document(), allow_nan=False))
    assert document["format"] == 1
    assert document["versions"][1] == {
        "name": "one@1",
        "digest": None,
        "in_production": True,
        "data_fingerprint": None,
    }
    assert document["parity"][0]["holds"] is False
    assert document["preferences"]["malformed"] == 1
    assert document["weakest_slice"]["name"]


def test_the_terminal_shows_verdicts_and_warnings(report: Report) -> None:
    """Parity that is off is red; nothing in the data is taken for markup or commands the terminal."""
    shown = printed(report)
    assert "one@1 (production)" in shown
    assert "better" in shown
    assert "OFF: it is the base" in shown
    assert "not compared: no such model" in shown
    assert "worst slice" in shown
    assert "[red]" in shown
    assert "alert(1)" in shown
    assert "$x^2$ [red]\x1b[31m" not in shown


class _Texts(HTMLParser):
    """Collects the tags of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_page_is_whole_and_escapes_every_text(report: Report) -> None:
    """No script, nothing from elsewhere, plots inside."""
    pytest.importorskip("matplotlib")
    text = page(report)
    reader = _Texts()
    reader.feed(text)
    tags = [tag for tag, _ in reader.tags]
    assert "script" not in tags
    assert "<script" not in text
    assert tags.count("img") >= 4
    images = [str(attributes["src"]) for tag, attributes in reader.tags if tag == "img"]
    assert all(source.startswith("data:image/png;base64,") for source in images)
    assert not any("href" in attributes for _, attributes in reader.tags)
    assert "wrong before, right now" in text
    assert "default-src 'none'" in text


def test_without_matplotlib_the_page_has_no_plots(report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """And says so."""
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    text = page(report)
    assert "<img" not in text
    assert "matplotlib is not installed" in text


def test_a_report_without_slices_judge_or_engine_is_a_report(report: Report) -> None:
    """What was not asked for is not there."""
    bare = replace(
        report,
        findings=replace(report.findings, slices=(), slice_gaps=(), reliability=(), changed=()),
        parity=(),
        preferences=None,
    )
    assert "worst slice" not in printed(bare)
    assert "<h2>Slices</h2>" not in page(bare)
    assert bare.document()["weakest_slice"] is None


def test_reports_are_kept_for_their_owner(report: Report, tmp_path: Path) -> None:
    """Both forms under one name, whole or not at all."""
    path = keep(report, tmp_path / "evaluations" / "one@2")
    kept = sorted(path.parent.iterdir())
    assert [each.suffix for each in kept] == [".html", ".json"]
    assert json.loads(path.read_text(encoding="utf-8"))["candidate"] == "one@2"
    assert all(each.stat().st_mode & 0o077 == 0 for each in kept)


def test_a_group_must_be_a_field() -> None:
    """Rows without it stand alone."""
    some = [*rows()[:4], Example(({"role": "user", "content": "x"},), "a")]
    assert groups_of(some, "user") == ["0", "0", "0", "1", 4]
    with pytest.raises(ValueError, match="--group nobody"):
        groups_of(some, "nobody")
