"""What a benchmark leaves behind."""

from pathlib import Path

import pytest

from loadtests.common.report import Sheet, markdown, number, remember
from loadtests.overhead.stream import growth_mb

SHEET = Sheet("Costs", ["system", "µs"], [["nginx", "15.0"], ["turnout", "-"]], ["A note."])


def test_the_history_grows_at_its_end(tmp_path: Path) -> None:
    """Each run adds an entry with bench, commit, machine and table below what is there."""
    history = tmp_path / "RESULTS.md"
    history.write_text("# Results\n", encoding="utf-8")
    for commit in ("aaa", "bbb"):
        remember(history, {"bench": "bench-x", "commit": commit, "machine": {"cores": 2}}, SHEET)
    text = history.read_text(encoding="utf-8")
    assert text.startswith("# Results\n")
    assert text.index("commit aaa") < text.index("commit bbb")
    assert text.count("cores 2") == 2
    assert text.endswith(markdown(SHEET))


def test_tables_are_markdown() -> None:
    """A head, a rule, the rows, and the notes as paragraphs."""
    assert markdown(SHEET).splitlines()[:3] == ["| system | µs |", "|---|---|", "| nginx | 15.0 |"]
    assert markdown(SHEET).endswith("\n\nA note.\n")
    assert number(1234.56, 1) == "1,234.6"
    assert number(None) == "-"


@pytest.mark.parametrize(
    ("samples", "grown"),
    [([], None), ([50.0], 0.0), ([10, 40, 40, 41, 40], 1), ([40, 40, 40, 40, 90, 60, 50, 50, 50, 50], 50)],
)
def test_growth_is_counted_from_when_memory_had_settled(samples: list[float], grown: float | None) -> None:
    """The first fifth, in which the streams begin, does not count; the highest point after it does."""
    assert growth_mb(samples) == grown
