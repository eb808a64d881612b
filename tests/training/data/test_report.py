"""The report of a check, on the terminal and as a page."""

import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from rich.console import Console

from training.data.findings import CheckReport, Finding, Lengths, Sample, SplitBalance
from training.data.page import page, write_html
from training.data.report import show
from training.data.rows import Kind

EVIL = "<script>alert('x')</script>&\"quoted\""
REPORT = CheckReport(
    source=f"{EVIL}.jsonl",
    kind="examples",
    rows_read=30,
    rows_kept=25,
    fingerprint="sha256:" + "0" * 64,
    findings=(
        Finding("copies", "dropped", 5, f"because {EVIL}", (Sample(4, f"[bold]{EVIL}\x1b[2J", "as line 2"),)),
        Finding("one class", "fatal", 25, "why", ()),
    ),
    lengths=Lengths("tokens", 10, 20, 40, (0.0, 20.0, 40.0), (20, 5)),
    labels={EVIL: 20, "b": 5},
    languages={"en": 25},
    personal={"EMAIL_ADDRESS": 2},
    splits=(SplitBalance("train", 20, 10, {EVIL: 0.8, "b": 0.2}, 3.0, 12.0), SplitBalance("test", 0, 0)),
    notes=(f"note {EVIL}",),
    settings={"near": 0.8},
    seconds={"duplicates": 1.25},
)


class Tags(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes.update(name for name, _ in attrs)

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_the_page_escapes_every_text_and_loads_nothing() -> None:
    """Rows can hold anything; none of it becomes an element."""
    found = Tags()
    found.feed(page(REPORT))
    assert not found.names & {"script", "img", "link", "iframe", "a"}
    assert not found.attributes & {"src", "href", "onload"}
    assert "<script>" not in page(REPORT)
    whole = "".join(found.said)
    assert whole.count("<script>alert('x')</script>") >= 5
    assert "default-src" in page(REPORT)
    for part in ("Findings", "Lengths", "Labels", "Languages", "Splits", "as line 2", "near: 0.8"):
        assert part in whole


def test_a_page_of_nothing_is_a_page() -> None:
    """A check that found nothing and measured nothing has no empty tables or plots."""
    bare = CheckReport("a.jsonl", "texts", 0, 0, "sha256:0")
    assert "Nothing was found" in page(bare)
    assert "<svg" not in page(bare)


@pytest.mark.parametrize(
    ("kind", "over", "said"),
    [
        ("examples", 3, "3 rows, which it leaves out"),
        ("examples", 1, "1 row, which it leaves out"),
        ("texts", 3, "3 rows, which it cuts into pieces"),
        ("examples", 0, "0 rows"),
    ],
)
def test_rows_that_are_too_long_to_train_on_are_told(kind: Kind, over: int, said: str) -> None:
    """In the table and on the page, with what becomes of them; nothing where no tokenizer was there."""
    lengths = Lengths("tokens", 10, 20, 2000, (0.0, 2000.0), (25,), 1024, over)
    report = replace(REPORT, kind=kind, lengths=lengths)
    console = Console(width=200, record=True, file=io.StringIO())
    show(report, console)
    tags = Tags()
    tags.feed(page(report))
    for shown in (console.export_text(), "".join(tags.said)):
        assert "Longer than the 1,024 tokens that training takes" in shown
        assert said in shown
    assert "that training takes" not in page(REPORT)


def test_the_page_replaces_an_older_one_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full leaves the old report."""
    path = tmp_path / "report.html"
    write_html(REPORT, path)
    assert path.read_text(encoding="utf-8") == page(REPORT)

    def full(*_: object, **__: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        write_html(CheckReport("b.jsonl", "texts", 0, 0, "sha256:0"), path)
    assert list(tmp_path.iterdir()) == [path]


def test_the_terminal_gets_neither_markup_nor_control_characters() -> None:
    """What rows hold is printed as it is read, and moves no cursor."""
    console = Console(width=120, record=True, file=io.StringIO())
    show(REPORT, console)
    said = console.export_text()
    assert "\x1b" not in said
    assert "[bold]" in said
    assert re.search(r"copies +│ dropped +│ +5", said)
    assert "30 examples read, 5 dropped, 25 kept: can't be trained on" in said
