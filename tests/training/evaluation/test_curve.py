"""Learning curves."""

from pathlib import Path

import pytest

from adapters.manifest import Evaluation, Score
from training.evaluation.curve import curve, draw, sizes, table


def evaluation(value: float, rows: int = 100) -> Evaluation:
    """Return an evaluation of an adapter beside a plain classifier at 0.7."""
    scores = [
        Score(system=name, metric="accuracy", value=at, low=at - 0.1, high=at + 0.1, rows=rows)
        for name, at in (("adapter", value), ("tf-idf", 0.7))
    ]
    return Evaluation(rows=rows, scores=tuple(scores))


def test_sizes_double() -> None:
    """Up to all rows; too few rows are refused."""
    assert sizes(2400, points=4) == [300, 600, 1200, 2400]
    with pytest.raises(ValueError, match="too few"):
        sizes(8, points=5)


def test_a_curve_is_a_table_and_a_picture(tmp_path: Path) -> None:
    """In the order of the rows, beside what does not learn from them."""
    judged = [(200, evaluation(0.8)), (100, evaluation(0.6))]
    found = curve(judged, "accuracy", beside=["tf-idf"])
    assert table(found).splitlines() == [
        "| training rows | accuracy |",
        "|---|---|",
        "| 100 | 0.600 [0.500, 0.700] |",
        "| 200 | 0.800 [0.700, 0.900] |",
        "| tf-idf | 0.700 |",
    ]
    pytest.importorskip("matplotlib")
    draw(found, tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_a_rival_that_learns_too_has_a_curve_of_its_own(tmp_path: Path) -> None:
    """It is a column of the table, and a line of the picture."""
    judged = [(200, evaluation(0.8)), (100, evaluation(0.6))]
    found = curve(judged, "accuracy", rivals=["tf-idf"])
    assert table(found).splitlines() == [
        "| training rows | accuracy | tf-idf |",
        "|---|---|---|",
        "| 100 | 0.600 [0.500, 0.700] | 0.700 |",
        "| 200 | 0.800 [0.700, 0.900] | 0.700 |",
    ]
    pytest.importorskip("matplotlib")
    draw(found, tmp_path / "with.png")
    draw(curve(judged, "accuracy"), tmp_path / "without.png")
    assert (tmp_path / "with.png").read_bytes() != (tmp_path / "without.png").read_bytes()


def test_what_is_no_curve_is_refused() -> None:
    """Other held-out rows, or a metric that was not judged."""
    with pytest.raises(ValueError, match="same held-out rows"):
        curve([(1, evaluation(0.5)), (2, evaluation(0.5, rows=99))], "accuracy")
    with pytest.raises(ValueError, match="no f1 of adapter"):
        curve([(1, evaluation(0.5))], "f1")
