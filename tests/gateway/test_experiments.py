"""Assignment to arms."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routes import Arm
from gateway.routing.experiments import Lottery, assign, draws, unit_of

SUBJECTS = {
    "sequential": [str(i) for i in range(20_000)],
    "e-mail-like": [f"user{i}@example.com" for i in range(20_000)],
}


def arms(**shares: float) -> list[Arm]:
    """Arms `NAME@1` with these shares."""
    return [Arm(adapter=f"{name}@1", share=share) for name, share in shares.items()]


@pytest.mark.parametrize("kind", SUBJECTS)
def test_shares_are_met(kind: str) -> None:
    """Each arm gets its share of the subjects, within five standard errors."""
    counts = Counter(assign("r", "", s, arms(a=0.7, b=0.2, c=0.1)).adapter for s in SUBJECTS[kind])
    total = len(SUBJECTS[kind])
    for label, share in (("a@1", 0.7), ("b@1", 0.2), ("c@1", 0.1)):
        assert abs(counts[label] / total - share) < 5 * (share * (1 - share) / total) ** 0.5


def test_a_changed_share_moves_no_other_subjects() -> None:
    """From 90/10 to 80/20 a tenth of the subjects moves, all of them to the arm that grew."""
    moves = Counter(
        (assign("r", "", s, arms(a=0.9, b=0.1)).adapter, assign("r", "", s, arms(a=0.8, b=0.2)).adapter)
        for s in SUBJECTS["sequential"]
    )
    assert moves[("b@1", "a@1")] == 0
    assert abs(moves[("a@1", "b@1")] / 20_000 - 0.1) < 0.01


def test_routes_are_uncorrelated() -> None:
    """A subject's arm on one route says nothing of its arm on another."""
    both = Counter(
        (assign("r", "", s, arms(a=0.5, b=0.5)).adapter, assign("q", "", s, arms(a=0.5, b=0.5)).adapter)
        for s in SUBJECTS["sequential"]
    )
    assert all(abs(count / 20_000 - 0.25) < 0.02 for count in both.values())


@given(st.text(), st.permutations(arms(a=0.5, b=0.3, c=0.2)))
def test_the_order_of_arms_does_not_matter(subject: str, shuffled: list[Arm]) -> None:
    """Any subject gets the same arm however the arms are listed."""
    assert assign("r", "", subject, shuffled) == assign("r", "", subject, arms(a=0.5, b=0.3, c=0.2))


def test_an_arm_without_a_share_is_never_chosen() -> None:
    """Share 0 means no traffic at all."""
    assert {assign("r", "", s, arms(a=0.0, b=1.0)).adapter for s in SUBJECTS["sequential"]} == {"b@1"}


def test_no_share_at_all_is_an_error() -> None:
    """A route whose arms all have share 0 can't be assigned."""
    with pytest.raises(ValueError, match="no arm"):
        assign("r", "", "s", arms(a=0.0))


def test_assignment_is_fixed_for_ever() -> None:
    """The very arms of these subjects are part of the contract between versions of Turnout."""
    got = [assign("support", "", f"u{i}", arms(a=0.5, b=0.5)).adapter for i in range(8)]
    assert got == ["b@1", "a@1", "a@1", "a@1", "b@1", "b@1", "a@1", "b@1"]


def test_a_pseudonym_differs_by_route() -> None:
    """A subject can't be followed from one route to another by its recorded unit."""
    assert unit_of("r", "ann") != unit_of("q", "ann")
    assert len(unit_of("r", "ann")) == 32


def test_a_sample_has_its_share() -> None:
    """Sampling takes the stated share of subjects."""
    share = sum(draws("r", "capture", s, 0.1) for s in SUBJECTS["sequential"]) / 20_000
    assert abs(share - 0.1) < 0.01


@given(
    st.lists(st.one_of(st.just(0.0), st.floats(1e-9, 1)), min_size=1, max_size=5).filter(any),
    st.text(min_size=1, max_size=20),
    st.text(max_size=20),
)
def test_a_prepared_draw_is_the_same(shares: list[float], route: str, subject: str) -> None:
    """A lottery finds the arm, the sample and the pseudonym that the plain functions find."""
    some = [Arm(adapter=f"a{number}@1", share=share) for number, share in enumerate(shares)]
    lottery = Lottery(route, "", some)
    assert some[lottery.arm(subject)] == assign(route, "", subject, some)
    assert lottery.captures(subject, 0.5) == draws(route, "capture", subject, 0.5)
    assert lottery.unit(subject) == unit_of(route, subject)


def test_a_lottery_without_prizes() -> None:
    """Where no arm has a share there is nothing to draw, and that is said."""
    with pytest.raises(ValueError, match="no arm"):
        Lottery("r", "", arms(a=0.0, b=0.0)).arm("subject")
