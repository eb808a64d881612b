"""What `/metrics` says of the watch."""

from gateway.api.drift_metrics import WatchMetrics
from gateway.store.watches import WatchRow

EFFECT = {"value": 0.1, "low": 0.0, "high": 0.2, "tolerance": 0.01}
FIGURES = {
    "rows": {"reference": 2000, "current": 40},
    "detector": {"evidence": 8.0, "threshold": 8.0},
    "streams": {"embedding": {"evidence": -1e9, "effect": EFFECT}},
    "ratings": {"thumbs": {"evidence": 99.0, "threshold": 9.0, "difference": None}},
}


def samples(*rows: WatchRow) -> dict[tuple[str, ...], float]:
    """The samples by name and labels."""
    return {
        (sample.name.removeprefix("turnout_watch_"), *sample.labels.values()): sample.value
        for family in WatchMetrics(lambda: rows).collect()
        for sample in family.samples
    }


def test_where_a_watch_stands() -> None:
    """Evidence is a share of an alarm's, at most 1; what a stream does not know is left out."""
    found = samples(
        WatchRow("s", looked_at=5.0, due_at=9.0, failed=2, alarms={"embedding": 3.0}, figures=FIGURES)
    )
    assert found == {
        ("looked_timestamp_seconds", "s"): 5.0,
        ("due_timestamp_seconds", "s"): 9.0,
        ("looks_failed", "s"): 2.0,
        ("rows", "s", "reference"): 2000.0,
        ("rows", "s", "current"): 40.0,
        ("missing_rows", "s"): 0.0,
        ("evidence", "s", "together"): 1.0,
        ("evidence", "s", "embedding"): 0.0,
        ("evidence", "s", "thumbs"): 1.0,
        ("effect", "s", "embedding"): 0.1,
        ("alarm_timestamp_seconds", "s", "embedding"): 3.0,
    }


def test_a_watch_without_a_reference() -> None:
    """What is missing is a number; a watch that promises nothing is never overdue."""
    lacking = {"rows": 1500, "need_rows": 2000, "days": 3, "need_days": 7}
    found = samples(WatchRow("s", looked_at=5.0, figures={"too_little": lacking}))
    assert found[("missing_rows", "s")] == 500
    assert ("due_timestamp_seconds", "s") not in found
