"""What the gate asks for, from a route's policy."""

import pytest
from pydantic import ValidationError

from gateway.core.loop import LoopPolicy
from training.gate.cli import rule_of


@pytest.mark.parametrize("margin", [0.01, 0.05, 0.49])
def test_every_margin_of_a_policy_can_be_judged_by(margin: float) -> None:
    """New rows must suffice to find a gain of two margins, or the one that was given."""
    assert rule_of(LoopPolicy(margin=margin), None).gain == pytest.approx(2 * margin)
    assert rule_of(LoopPolicy(margin=margin), 15.0).gain == pytest.approx(0.15)


@pytest.mark.parametrize("margin", [0.5, 0.9])
def test_a_margin_without_a_gain_to_find_is_no_policy(margin: float) -> None:
    """Two of it are all there is; the gate would have no verdict on any candidate."""
    with pytest.raises(ValidationError, match="margin"):
        LoopPolicy(margin=margin)


def test_a_gain_beyond_all_rows_is_bad_usage() -> None:
    """It is named in the message."""
    with pytest.raises(ValueError, match="120 points is not between"):
        rule_of(LoopPolicy(), 120.0)
