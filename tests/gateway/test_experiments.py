"""Assignment to arms."""

from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.routes import Arm
from gateway.routing.experiments import Lottery

SUBJECTS = {
    "sequential": [str(i) for i in range(20_000)],
    "e-mail-like": [f"user{i}@example.com" for i in range(20_000)],
}


def arms(**shares: float) -> list[Arm]:
    """Arms `NAME@1` with these shares."""
    return [Arm(adapter=f"{name}@1", share=share) for name, share in shares.items()]


def lotteries(route: str, *some: list[Arm]) -> Iterator[Callable[[str], str]]:
    """For each list of arms, what finds the label of a subject's arm."""
    for listed in some:
        lottery = Lottery(route, "", listed)
        yield lambda subject, lottery=lottery, listed=listed: listed[lottery.arm(subject)].adapter


@pytest.mark.parametrize("kind", SUBJECTS)
def test_shares_are_met(kind: str) -> None:
    """Each arm gets its share of the subjects, within five standard errors."""
    (arm,) = lotteries("r", arms(a=0.7, b=0.2, c=0.1))
    counts = Counter(map(arm, SUBJECTS[kind]))
    total = len(SUBJECTS[kind])
    for label, share in (("a@1", 0.7), ("b@1", 0.2), ("c@1", 0.1)):
        assert abs(counts[label] / total - share) < 5 * (share * (1 - share) / total) ** 0.5


def test_a_changed_share_moves_no_other_subjects() -> None:
    """From 90/10 to 80/20 a tenth of the subjects moves, all of them to the arm that grew."""
    before, after = lotteries("r", arms(a=0.9, b=0.1), arms(a=0.8, b=0.2))
    moves = Counter((before(s), after(s)) for s in SUBJECTS["sequential"])
    assert moves[("b@1", "a@1")] == 0
    assert abs(moves[("a@1", "b@1")] / 20_000 - 0.1) < 0.01


def test_routes_are_uncorrelated() -> None:
    """A subject's arm on one route says nothing of its arm on another."""
    (here,), (there,) = (lotteries(route, arms(a=0.5, b=0.5)) for route in ("r", "q"))
    both = Counter((here(s), there(s)) for s in SUBJECTS["sequential"])
    assert all(abs(count / 20_000 - 0.25) < 0.02 for count in both.values())


@given(st.text(), st.permutations(arms(a=0.5, b=0.3, c=0.2)))
def test_the_order_of_arms_does_not_matter(subject: str, shuffled: list[Arm]) -> None:
    """Any subject gets the same arm however the arms are listed."""
    one, other = lotteries("r", shuffled, arms(a=0.5, b=0.3, c=0.2))
    assert one(subject) == other(subject)


def test_an_arm_without_a_share_is_never_chosen() -> None:
    """Share 0 means no traffic at all."""
    for some in (arms(a=0.0, b=1.0), arms(a=0.0, b=0.5, c=0.5)):
        (arm,) = lotteries("r", some)
        assert set(map(arm, SUBJECTS["sequential"])) == {entry.adapter for entry in some if entry.share}


def test_no_share_at_all_is_an_error() -> None:
    """A route whose arms all have share 0 can't be assigned."""
    with pytest.raises(ValueError, match="no arm"):
        Lottery("r", "", arms(a=0.0, b=0.0)).arm("s")


def test_assignment_is_fixed_for_ever() -> None:
    """The very arms of these subjects are part of the contract between versions of Turnout."""
    (arm,) = lotteries("support", arms(a=0.5, b=0.5))
    got = [arm(f"u{i}") for i in range(8)]
    assert got == ["b@1", "a@1", "a@1", "a@1", "b@1", "b@1", "a@1", "b@1"]


def test_a_pseudonym_differs_by_route() -> None:
    """A subject can't be followed from one route to another by its recorded unit."""
    units = {Lottery(route, "", arms(a=1.0)).unit("ann") for route in ("r", "q")}
    assert [len(unit) for unit in units] == [32, 32]


def test_a_sample_has_its_share() -> None:
    """Sampling takes the stated share of subjects."""
    lottery = Lottery("r", "", arms(a=1.0))
    share = sum(lottery.captures(s, 0.1) for s in SUBJECTS["sequential"]) / 20_000
    assert abs(share - 0.1) < 0.01


def test_samples_have_their_shares_and_are_independent() -> None:
    """What is captured and what a shadow answers are samples of their shares, drawn apart from each other."""
    lottery = Lottery("r", "", arms(a=1.0))
    drawn = Counter((lottery.captures(s, 0.5), lottery.shadows(s, 0.2)) for s in SUBJECTS["sequential"])
    for (captured, shadowed), share in {(True, True): 0.1, (True, False): 0.4, (False, True): 0.1}.items():
        assert abs(drawn[captured, shadowed] / 20_000 - share) < 0.015
    assert not any(lottery.shadows(s, 0.0) for s in SUBJECTS["sequential"])
    assert all(lottery.shadows(s, 1.0) for s in SUBJECTS["sequential"])
