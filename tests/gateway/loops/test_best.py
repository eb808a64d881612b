"""Which version the gate holds beside a candidate as the best one ever."""

from collections.abc import Mapping

import pytest

from gateway.loops.best import best_of
from gateway.loops.run import Run
from tests.gateway.loops import made

FIRST = ("s@1", "s@2", 0.90, 0.87)
SECOND = ("s@2", "s@3", 0.60, 0.57)
GAIN = ("s@2", "s@3", 0.60, 0.66)
ALL = frozenset({"s@1", "s@2", "s@3", "t@1"})


def promoted(champion: str, candidate: str | None, old: float, new: float) -> Run:
    """Return a run that promoted a version, with both scores on its old rows."""
    systems = {"champion": {"value": old}, "candidate": {"value": new}}
    gate = {"sets": {"old": {"systems": systems}}}
    return made.run(champion=champion, candidate=candidate, state="promoted", results={"gate": gate})


@pytest.mark.parametrize(
    ("runs", "champion", "there", "best"),
    [
        ([], "s@1", ALL, None),
        # the version that nobody's run made counts, and small losses add up whatever rows they were seen on
        ([FIRST], "s@2", ALL, "s@1"),
        ([FIRST, SECOND], "s@3", ALL, "s@1"),
        # .90 - .03 + .06
        ([FIRST, GAIN], "s@3", ALL, None),
        ([FIRST, ("s@2", "s@3", 0.60, 0.62)], "s@3", ALL, "s@1"),
        # one that is gone is not asked for
        ([FIRST, SECOND], "s@3", ALL - {"s@1"}, "s@2"),
        ([FIRST, SECOND], "s@3", frozenset({"s@3"}), None),
        # a champion that a person put there has no score to be best by
        ([FIRST], "t@1", ALL, "s@1"),
        ([("s@1", None, 0.9, 0.8)], "s@1", ALL, None),
    ],
)
def test_the_best_version_ever(
    runs: list[tuple[str, str | None, float, float]], champion: str, there: frozenset[str], best: str | None
) -> None:
    """It did best on old rows, as its gates have it; never the champion, and never one that is gone."""
    assert best_of([promoted(*run) for run in reversed(runs)], champion=champion, there=there) == best


@pytest.mark.parametrize(
    "gate", [None, {}, {"sets": []}, {"sets": {"old": {"systems": {"champion": {"value": True}}}}}]
)
def test_a_gate_that_says_nothing_counts_for_nothing(gate: Mapping[str, object] | None) -> None:
    """What a step of another release left is read with care."""
    run = made.run(candidate="s@2", state="promoted", results={"gate": gate})
    assert best_of([run], champion="s@2", there=ALL) is None
