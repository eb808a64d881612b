"""When a run begins."""

from typing import Any

import pytest

from gateway.core.canary import Canary
from gateway.core.documents import Arm
from gateway.core.routes import Route
from gateway.loops.rules import (
    FRESH_S,
    Begin,
    Finding,
    NotNow,
    Past,
    begin,
    champion_of,
    may_begin,
    needed,
    unfit,
)
from tests.gateway.loops import made
from tests.gateway.loops.made import HOUR

DAY = 24 * HOUR
FOUND = Finding(7, "drift", HOUR)


@pytest.mark.parametrize(
    ("policy", "past", "finding", "begins"),
    [
        ({}, [], FOUND, "drift"),
        ({}, [], Finding(7, "feedback", HOUR), "feedback"),
        ({}, [], Finding(7, "concept", HOUR), "feedback"),
        ({}, [], Finding(7, "none", HOUR), None),
        ({}, [], None, None),
        ({}, [], Finding(7, "drift", FRESH_S), None),
        ({"triggers": ["feedback"]}, [], FOUND, None),
        ({"triggers": ["manual"]}, [], FOUND, None),
        # cooldown: after any end, a day by default
        ({}, [Past(3 * DAY, 2 * DAY)], FOUND, "drift"),
        ({}, [Past(2 * DAY, 23 * HOUR)], FOUND, None),
        ({"cooldown_h": 0.5}, [Past(2 * DAY, HOUR + 1)], FOUND, "drift"),
        # a run was the answer to what was found before it ended, and to the look that it names
        ({"cooldown_h": 0}, [Past(2 * DAY, HOUR / 2)], FOUND, None),
        ({}, [Past(3 * DAY, 2 * DAY, 7)], FOUND, None),
        ({}, [Past(3 * DAY, 2 * DAY, 6)], FOUND, "drift"),
        # one that had too few rows was none
        ({}, [Past(3 * DAY, 2 * DAY, 7, in_vain=True)], FOUND, "drift"),
        ({}, [Past(2 * DAY, 23 * HOUR, 7, in_vain=True)], FOUND, None),
        # one open run, and a week's budget
        ({}, [Past(DAY, None)], FOUND, None),
        (
            {"runs_per_week": 2, "cooldown_h": 0},
            [Past(6 * DAY, 5 * DAY), Past(3 * DAY, 2 * DAY)],
            FOUND,
            None,
        ),
        ({"runs_per_week": 2}, [Past(8 * DAY, 7 * DAY), Past(3 * DAY, 2 * DAY)], FOUND, "drift"),
        # the schedule: from when the route was first seen (two days ago), then from the last run's beginning
        ({"triggers": ["schedule"], "schedule_h": 47}, [], None, "schedule"),
        ({"triggers": ["schedule"], "schedule_h": 49}, [], None, None),
        ({"triggers": ["schedule"], "schedule_h": 47}, [Past(46 * HOUR, 40 * HOUR)], None, None),
        ({"triggers": ["schedule", "drift"], "schedule_h": 49}, [], FOUND, "drift"),
    ],
)
def test_what_begins_a_run(
    policy: dict[str, Any], past: list[Past], finding: Finding | None, begins: str | None
) -> None:
    """Triggers that the policy has, outside the cooldown, within the budget, once for each finding."""
    found = begin(made.policy(**policy), past, findings=[finding] if finding else [], watched_s=2 * DAY)
    assert (found.trigger if isinstance(found, Begin) else None) == begins


def test_after_a_run_in_vain_more_rows_are_waited_for() -> None:
    """What it had was too little for all its rated requests; other findings wait for no more than before."""
    policy, past = made.policy(min_new_examples=200), [Past(3 * DAY, 2 * DAY, 7, in_vain=True)]
    assert [needed(policy, past * tried, 7) for tried in range(3)] == [200, 250, 313]
    assert needed(policy, past, 8) == 200
    assert needed(policy, [Past(3 * DAY, 2 * DAY, 7, in_vain=True, lacks=2.0)], 7) == 500
    for learnable, begins in ((249, False), (250, True)):
        found = begin(policy, past, findings=[Finding(7, "drift", HOUR, learnable)], watched_s=0)
        assert isinstance(found, Begin) is begins


@pytest.mark.parametrize(
    ("policy", "past", "learnable", "begins"),
    [
        ({}, [], 300, 9),
        ({"triggers": ["feedback"]}, [], 300, 7),
        ({"triggers": ["manual"]}, [], 300, None),
        ({}, [Past(3 * DAY, 2 * DAY, 9)], 300, None),
        ({}, [Past(3 * DAY, 2 * DAY, 8)], 300, 9),
        ({}, [], 20, 7),
    ],
)
def test_no_finding_hides_another_one(
    policy: dict[str, Any], past: list[Past], learnable: int, begins: int | None
) -> None:
    """The newest that the policy acts on and that has rows begins the run; a run answers all before it."""
    several = [Finding(7, "feedback", 2 * HOUR, 300), Finding(9, "drift", HOUR, learnable)]
    found = begin(made.policy(min_new_examples=200, **policy), past, findings=several, watched_s=0)
    named = found.finding.id if isinstance(found, Begin) and found.finding else None
    assert named == begins


def test_what_was_found_of_another_version_begins_nothing() -> None:
    """A finding from before the present version met traffic is about the one before."""
    policy = made.policy()
    assert isinstance(begin(policy, [], findings=[FOUND], watched_s=0, champion_s=HOUR / 2), NotNow)
    assert isinstance(begin(policy, [], findings=[FOUND], watched_s=0, champion_s=2 * HOUR), Begin)


@pytest.mark.parametrize(
    ("policy", "past", "says"),
    [
        ({}, [], None),
        ({}, [Past(DAY, HOUR)], None),
        ({"triggers": ["drift"]}, [], "manual"),
        ({}, [Past(DAY, None)], "under way"),
        ({"runs_per_week": 1}, [Past(DAY, HOUR)], "within a week"),
    ],
)
def test_what_stands_against_a_person(policy: dict[str, Any], past: list[Past], says: str | None) -> None:
    """A person's run does not wait for the cooldown; one at a time and the week's budget hold for it too."""
    found = may_begin(made.policy(**policy), past, by_hand=True)
    assert (found is None) if says is None else (found is not None and says in found.reason)


def test_how_long_to_wait_is_said() -> None:
    """The cooldown and the budget say when they are over."""
    cooldown = may_begin(made.policy(cooldown_h=24), [Past(2 * DAY, 20 * HOUR)])
    budget = may_begin(made.policy(runs_per_week=1, cooldown_h=0), [Past(5 * DAY, 4 * DAY)])
    assert cooldown is not None
    assert cooldown.wait_s == 4 * HOUR
    assert budget is not None
    assert budget.wait_s == 2 * DAY


def _arms(*arms: tuple[str, float]) -> Route:
    known = made.route()
    several = tuple(Arm(adapter=label, share=share) for label, share in arms)
    return known.model_copy(update={"status": known.status.model_copy(update={"effective_arms": several})})


@pytest.mark.parametrize(
    ("route", "says"),
    [
        (made.route(), None),
        (made.route(arm="base"), None),
        (_arms(("a@1", 0.5), ("b@1", 0.5)), "several arms"),
        (_arms(), "several arms"),
        (made.canarying("running"), "under way"),
        (made.canarying("rolled_back"), None),
        (made.route(canary=Canary(candidate="support@9")), "has a canary of support@9"),
        (made.route().model_copy(update={"generation": 6}), "the route is active"),
        (made.route().model_copy(update={"fault": "broken"}), "can't be read"),
    ],
)
def test_which_routes_a_candidate_can_be_compared_on(route: Route, says: str | None) -> None:
    """One version answers all traffic, and nothing is being changed or compared there."""
    found = unfit(route)
    assert (found is None) if says is None else (found is not None and says in found)


def test_the_champion_is_what_answers_all_traffic() -> None:
    """An arm without a share is none."""
    assert champion_of(_arms(("a@1", 1.0), ("b@1", 0.0))) == "a@1"
    assert champion_of(_arms(("a@1", 0.5), ("b@1", 0.5))) is None


@pytest.mark.parametrize(("learnable", "begins"), [(None, True), (200, True), (199, False), (0, False)])
def test_a_finding_waits_for_rows_to_train_on(learnable: int | None, begins: bool) -> None:
    """A run that ends for want of rows would have answered it; it begins when there are enough."""
    finding = Finding(7, "drift", HOUR, learnable)
    found = begin(made.policy(min_new_examples=200), [], findings=[finding], watched_s=0)
    assert isinstance(found, Begin) is begins
    assert begins or (isinstance(found, NotNow) and "200 are needed" in found.reason)
    scheduled = made.policy(min_new_examples=200, triggers=["drift", "schedule"], schedule_h=1)
    assert isinstance(begin(scheduled, [], findings=[finding], watched_s=2 * HOUR), Begin)
