"""Whom canaries draw: others each time, and nobody moves at a step who does not have to."""

import itertools
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.controller.routes import FleetView, next_status
from gateway.core import steps
from gateway.core.canary import Canary
from gateway.core.routes import Arm, Route, RouteSpec, RouteStatus
from gateway.core.steps import Moment
from gateway.routing.experiments import Lottery
from gateway.store.fleet import RegistrationRow

SUBJECTS = {
    "sequential": [str(number) for number in range(20_000)],
    "e-mail-like": [f"user{number}@example.com" for number in range(20_000)],
}
SHARE = 0.2
VERY_UNLIKELY = 10.83
"""Of chi-square with one degree of freedom: one in a thousand is above."""


def arms(**shares: float) -> tuple[Arm, ...]:
    """Arms `NAME@1` with these shares."""
    return tuple(Arm(adapter=f"{name}@1", share=share) for name, share in shares.items())


def spec(wanted: tuple[Arm, ...], *shares: float, candidate: str = "c@1") -> RouteSpec:
    """A spec with a canary that takes these steps."""
    return RouteSpec(arms=wanted, canary=Canary(candidate=candidate, steps=(*shares, 1.0)))


def flipped(wanted: RouteSpec, before: RouteStatus, generation: int) -> Route:
    """The route when the controller has put a spec into effect, all of its versions being ready."""
    ready = {
        ref: (RegistrationRow("r1", ref, "1", "sha256:0", "attested", None, None, 0.0),)
        for ref in wanted.versions()
    }
    fresh = before.model_copy(update={"state": "preparing", "canary": None, "canary_step": None})
    route = Route(name="r", spec=wanted, generation=generation, status=fresh)
    view = FleetView(frozenset({"r1"}), ready)
    moment = Moment(0.0, generation + 1)
    return route.model_copy(
        update={"status": next_status(route, view, absent={}, min_ready=1, moment=moment)}
    )


def drawn(route: Route, subjects: Sequence[str]) -> list[str]:
    """The arm of each subject."""
    effective = route.status.effective_arms
    lottery = Lottery(route.name, route.status.salt, effective)
    return [effective[lottery.arm(subject)].adapter for subject in subjects]


def after(route: Route, status: RouteStatus) -> Route:
    """The route with another status."""
    return route.model_copy(update={"status": status})


def chi_square(one: Sequence[bool], other: Sequence[bool]) -> float:
    """How far two properties of the same subjects are from being independent."""
    total, counts = len(one), Counter(zip(one, other, strict=True))
    ones, others = sum(one), sum(other)
    return sum(
        (counts[a, b] - expected) ** 2 / expected
        for a in (True, False)
        for b in (True, False)
        if (expected := (ones if a else total - ones) * (others if b else total - others) / total)
    )


@pytest.mark.parametrize("kind", SUBJECTS)
def test_successive_canaries_draw_independent_subjects(kind: str) -> None:
    """Who was in one canary is in the next as likely as anybody, whether it is restarted or another one."""
    first = flipped(spec(arms(s=1), SHARE), RouteStatus(effective_arms=arms(s=1)), 1)
    stopped = after(first, steps.rolled_back(first, reason="bad", figures={}))
    again = after(stopped, steps.restarted(stopped, Moment(0.0, 9)))
    other = flipped(spec(arms(s=1), SHARE, candidate="d@1"), stopped.status, 20)
    canaries = [first, again, other]
    guinea_pigs = [
        [arm != "s@1" for arm in drawn(each, SUBJECTS[kind])] for each in canaries
    ]  # fmt: skip
    for one, two in ((0, 1), (0, 2), (1, 2)):
        assert chi_square(guinea_pigs[one], guinea_pigs[two]) < VERY_UNLIKELY
    unsalted = after(again, again.status.model_copy(update={"salt": first.status.salt}))
    assert [arm != "s@1" for arm in drawn(unsalted, SUBJECTS[kind])] == guinea_pigs[0]


@given(
    st.sampled_from([arms(s=1), arms(s=0.7, t=0.3), arms(s=0.5, t=0.5, u=0)]),
    st.lists(st.floats(0.01, 0.99), min_size=1, max_size=4, unique=True).map(sorted),
    st.lists(st.text(max_size=8), min_size=20, max_size=20),
    st.sampled_from(["roll back", "abort", "promote"]),
)
def test_a_step_moves_nobody_but_to_the_candidate(
    wanted: tuple[Arm, ...], shares: list[float], subjects: list[str], end: str
) -> None:
    """From its beginning to its end a canary moves subjects to the candidate, and back when it is stopped."""
    route = flipped(spec(wanted, *shares), RouteStatus(effective_arms=wanted), 1)
    met = [
        drawn(
            Route(name="r", spec=route.spec, generation=1, status=RouteStatus(effective_arms=wanted)),
            subjects,
        )
    ]
    met.append(drawn(route, subjects))
    for _ in shares[1:]:
        route = after(route, steps.stepped(route, Moment(0.0, 3), reason="", figures={}))
        met.append(drawn(route, subjects))
    for before, now in itertools.pairwise(met):
        assert all(new in (old, "c@1") for old, new in zip(before, now, strict=True))
    salt = route.status.salt
    if end == "promote":
        route = after(route, steps.stepped(route, Moment(0.0, 3), reason="", figures={}))
    else:
        ends = {
            "roll back": lambda: steps.rolled_back(route, reason="", figures={}),
            "abort": lambda: steps.aborted(route),
        }
        route = after(route, ends[end]())
    last = drawn(route, subjects)
    wanted_last = [{"c@1"} if end == "promote" else {old} for old in met[-1]]
    assert all(
        new in allowed or old == "c@1" for old, new, allowed in zip(met[-1], last, wanted_last, strict=True)
    )
    assert route.status.salt == salt


@pytest.mark.parametrize(
    ("before", "changes"),
    [
        ((), True),
        (arms(s=1), True),
        (arms(x=1), True),
        (arms(s=0.5, t=0.5), False),
        (arms(s=0.9, c=0.1), False),
    ],
)
def test_a_salt_changes_only_while_nobody_is_drawn(before: tuple[Arm, ...], changes: bool) -> None:
    """A canary that follows on shares between several arms keeps their draw."""
    status = RouteStatus(effective_arms=before, salt="old")
    assert (flipped(spec(arms(s=1), SHARE), status, 1).status.salt != "old") is changes


def test_fixed_shares_keep_their_draw() -> None:
    """Routes without a canary are drawn as before, so that an upgrade moves nobody."""
    route = flipped(RouteSpec(arms=arms(s=0.5, t=0.5)), RouteStatus(), 1)
    assert route.status.salt == ""
    kept = RouteStatus(effective_arms=arms(s=1), salt="canary-7")
    assert flipped(RouteSpec(arms=arms(s=0.5, t=0.5)), kept, 1).status.salt == "canary-7"


def test_a_salted_draw_is_fixed_for_ever() -> None:
    """The very arms of these subjects are part of the contract between versions of Turnout."""
    lottery = Lottery("support", "canary-7", arms(a=0.5, b=0.5))
    assert [lottery.arm(f"u{number}") for number in range(8)] == [0, 1, 0, 1, 1, 1, 0, 0]
