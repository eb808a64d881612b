"""Judging rows that are not examples, by likelihood."""

import math

import pytest

from training.data.rows import Preference, Rated, Row, Text

pytestmark = pytest.mark.slow
ASK = ({"role": "user", "content": "x"},)


def test_of_two_answers_the_better_one_should_be_likelier() -> None:
    """Likelihoods are taken a token: a long good answer is not worse for being long."""
    from training.evaluation.held_out import figures

    rows: list[Row] = [Preference(ASK, "long and good", "bad")] * 4
    own = [[(-10.0, 10), (-2.0, 1)]] * 4
    theirs = [[(-10.0, 2), (-2.0, 1)]] * 4
    found = figures(rows, own, theirs, seed=1, note="few")
    scores = {score.system: score.value for score in found.scores}
    assert scores == {"adapter": 1.0, "base": 0.0}
    (gap,) = found.differences
    assert (gap.metric, gap.value, found.note) == ("preferred", 1.0, "few")


def test_liked_answers_should_become_likelier_and_others_less() -> None:
    """The base model is what is moved from, so it has no figure of its own."""
    from training.evaluation.held_out import figures

    rows: list[Row] = [Rated(ASK, "a", liked) for liked in (True, False, True, False)]
    own = [[(-1.0, 1)], [(-3.0, 1)], [(-3.0, 1)], [(-1.0, 1)]]
    found = figures(rows, own, [[(-2.0, 1)]] * 4, seed=1, note=None)
    (score,) = found.scores
    assert (score.system, score.metric, score.value) == ("adapter", "moved_rightly", 0.5)
    assert found.differences == ()


def test_texts_are_judged_by_their_loss_over_all_tokens() -> None:
    """A long text counts for more than a short one."""
    from training.evaluation.held_out import figures

    rows: list[Row] = [Text("short"), Text("long")]
    found = figures(rows, [[(-2.0, 1)], [(-9.0, 9)]], [[(-3.0, 1)], [(-27.0, 9)]], seed=1, note=None)
    values = {score.system: score.value for score in found.scores}
    assert values["adapter"] == pytest.approx(1.1)
    assert values["base"] == pytest.approx(3.0)
    assert math.isclose(found.differences[0].value, -1.9)
