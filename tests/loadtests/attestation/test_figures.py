"""From rows of proofs to the figures of `make bench-attestation`."""

from typing import Any

from loadtests.attestation.figures import figures_of, sheet_of


def row(kind: str, *, fault: str | None = None, weak: str | None = None, **more: Any) -> dict[str, Any]:
    """One proof of a version whose fleet reference is `to_fleet` away."""
    comparisons = [{"reference": "fleet", "distance": more.pop("to_fleet", 0.0)}]
    figures = {
        "seconds": more.pop("seconds", 0.5),
        "noise": 0.01,
        "distance_to_predecessor": more.pop("to_predecessor", None),
        "distance_to_base": more.pop("to_base", 3.0),
        "comparisons": comparisons,
    }
    return {"quantization": "none", "kind": kind, "fault": fault, "weak": weak, "figures": figures, **more}


ROWS = [
    row("first proof", to_predecessor=0.9),
    row("honest", load="alone", seconds=0.5),
    row("honest", load="alone", seconds=0.7, to_fleet=0.02),
    row("honest", load="under load", fault="it does not answer like replica-0", seconds=2.0, weak=None),
    row("one layer zeroed", fault="x", by_training=None, to_fleet=0.09),
    row("one layer zeroed", fault="x", by_training="x", to_fleet=0.5),
    row("one layer zeroed", by_training=None, to_fleet=0.01),
]


def test_what_is_counted() -> None:
    """Faults count by kind, by training alone and in all; an honest proof that failed is a false alarm."""
    figures = figures_of(ROWS)
    assert (figures["honest"], figures["false_alarms"]) == (3, 1)
    assert figures["faults"] == {"one layer zeroed": {"injected": 3, "caught": 2, "caught_by_training": 1}}
    alone = figures["by_quantization"]["none"]["alone"]
    assert (alone["count"], alone["seconds_p50"], alone["seconds_p99"]) == (2, 0.5, 0.7)


def test_distances_are_the_worst_of_their_kind() -> None:
    """Of right answers the largest distance is shown, of wrong ones the smallest."""
    distances = figures_of(ROWS)["distances"]["none"]
    assert distances["honest"]["to_fleet"] == 0.02
    assert distances["one layer zeroed"]["to_fleet"] == 0.01
    assert distances["first proof"]["to_predecessor"] == 0.9
    assert distances["honest"]["to_predecessor"] is None


def test_the_table_has_a_line_for_each_kind() -> None:
    """The table shows the distances, and the notes what was caught."""
    sheet = sheet_of(figures_of(ROWS))
    assert [line[0] for line in sheet.rows] == ["none: first proof", "none: honest", "none: one layer zeroed"]
    assert "one layer zeroed: 2 of 3 caught, 1 by training's reference alone." in sheet.notes
