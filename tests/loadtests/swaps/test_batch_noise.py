"""What sharing a batch does to answers is told from the answers alone."""

from loadtests.swaps.batch_noise import Answer, compared

ALONE = {
    "a": Answer("xy", ("x", "y"), (3.0, 0.5)),
    "b": Answer("zz", ("z", "z"), (2.0, 2.0)),
}


def test_changes_are_counted_and_measured() -> None:
    """The gap of a change is that of the first token that gave way; gaps of other answers are compared."""
    beside = [
        ("a", Answer("xz", ("x", "z"), (3.0, 0.25))),
        ("a", Answer("xy", ("x", "y"), (2.75, 0.5))),
        ("b", Answer("xy", ("x", "y"), (1.0, 1.0))),
        ("b", ALONE["b"]),
    ]
    assert compared(ALONE, beside) == {
        "asked": 4,
        "changed": 2,
        "as_another_adapter": 1,
        "adapters_changed": 2,
        "widest_gap_of_a_change": 2.0,
        "largest_change_of_a_gap": 0.25,
    }
    assert compared(ALONE, [])["widest_gap_of_a_change"] == 0.0
