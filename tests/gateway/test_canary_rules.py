"""A canary's pure parts: what is decided on which evidence, and what commands make of a canary."""

from collections.abc import Callable

import pytest

from gateway.controller.canary import decide
from gateway.core import steps
from gateway.core.canary import Canary, CanaryStatus, arms_with, faults, stable_of
from gateway.core.routes import Arm, Metric, Route, RouteSpec, RouteStatus
from gateway.core.steps import Moment, NotPossible
from gateway.experiments.compare import Difference
from gateway.experiments.experiment import Experiment
from gateway.experiments.findings import Findings
from gateway.experiments.measures import Measure
from gateway.experiments.mismatch import Mismatch
from gateway.experiments.units import Exposed
from gateway.experiments.watch import Guarded, Watch

STABLE, CANDIDATE = "s@1", "s@2"
HOUR = 3600.0
CANARY = Canary(
    candidate=CANDIDATE, steps=(0.1, 0.5, 1.0), min_units=10, step_deadline_h=2, guardrails={"errors": 0.05}
)
ARMS = (Arm(adapter=STABLE, share=1.0),)


def route(canary: Canary = CANARY, **status: object) -> Route:
    """A route whose canary began at 1,000 s and generation 7, at its first step unless `status` says else."""
    spec = RouteSpec(arms=ARMS, canary=canary)
    whole = RouteStatus(state="active", active_generation=5, effective_arms=ARMS)
    begun = steps.begun(spec, whole, Moment(1_000.0, 7))
    assert begun.canary is not None
    begun = begun.model_copy(update={"canary": begun.canary.model_copy(update=status)})
    return Route(name="r", spec=spec, generation=5, status=begun)


def evidence(
    *,
    units: int = 10,
    estimate: float | None = 0.0,
    high: float = 0.2,
    breached: bool = False,
    hard_stop: bool = False,
    suspicious: bool = False,
) -> Findings:
    """Findings of a canary with one guardrail on errors, limit 0.05, whose units close after an hour."""
    difference = Difference(estimate, -0.2, high, 0.01, 0.01, 100, 10)
    guard = Guarded(
        measure=Measure("errors", HOUR),
        limit=0.05,
        alpha=0.05,
        difference=difference,
        breached=breached,
        leaning=estimate is None or estimate > 0.05,
        proven=high < 0.05,
    )
    return Findings(
        experiment=Experiment("r", STABLE, (CANDIDATE,), {8: {STABLE: 0.9, CANDIDATE: 0.1}}),
        until=0.0,
        exposed=Exposed(),
        mismatch=Mismatch(0.001 if suspicious else 0.5, suspicious, 8),
        units_per_day=0.0,
        candidates={},
        watch=Watch({"errors": guard}, units, hard_stop),
    )


LONG = 1_000.0 + HOUR + 2 * HOUR  # the deadline: two hours from when the first unit can be closed


@pytest.mark.parametrize(
    ("found", "now", "state", "step"),
    [
        ({}, 1_001.0, "running", 2),
        ({"units": 9}, LONG - 1, "running", 1),
        ({"units": 9}, LONG, "held", 1),
        ({"estimate": 0.06}, LONG - 1, "running", 1),
        ({"estimate": 0.06}, LONG, "held", 1),
        ({"estimate": None}, LONG, "held", 1),
        ({"suspicious": True}, LONG - 1, "running", 1),
        ({"suspicious": True}, LONG, "held", 1),
        ({"breached": True}, 1_001.0, "rolled_back", 1),
        ({"breached": True, "suspicious": True, "units": 0}, 1_001.0, "rolled_back", 1),
        ({"hard_stop": True, "units": 0}, 1_001.0, "rolled_back", 1),
    ],
)
def test_what_is_decided(found: dict[str, object], now: float, state: str, step: int) -> None:
    """What is certain ends the canary, enough units pass the step, and at the deadline the rest is held."""
    status = decide(route(), evidence(**found), Moment(now, 20))  # type: ignore[arg-type]
    assert status.canary is not None
    assert (status.canary.state, status.canary.step) == (state, step)


@pytest.mark.parametrize("state", ["held", "paused", "waiting"])
def test_who_stands_still_is_watched_on(state: str) -> None:
    """Enough units move nothing, and a breach ends it all the same."""
    standing = route(state=state)
    assert decide(standing, evidence(units=99), Moment(LONG, 20)) == standing.status
    ended = decide(standing, evidence(breached=True), Moment(LONG, 20))
    assert (ended.canary and ended.canary.state, ended.effective_arms) == ("rolled_back", ARMS)


@pytest.mark.parametrize("state", ["rolled_back", "aborted", "promoted"])
def test_an_ended_canary_stays_ended(state: str) -> None:
    """No evidence brings it back."""
    ended = route(state=state)
    for found in (evidence(), evidence(breached=True)):
        assert decide(ended, found, Moment(LONG, 20)) == ended.status


def test_the_way_of_a_good_candidate() -> None:
    """Each step has its share, its units and its clock; after the last one it has all the traffic."""
    at = route()
    for now, generation, share in ((2_000.0, 20, 0.5), (3_000.0, 30, 1.0)):
        status = decide(at, evidence(), Moment(now, generation))
        assert {arm.adapter: arm.share for arm in status.effective_arms}[CANDIDATE] == share
        at = at.model_copy(update={"status": status})
        if share == 0.5:
            assert status.canary is not None
            assert (status.canary.step_at, status.canary.step_after_generation) == (now, generation)
            assert (status.canary.after_generation, status.canary_step) == (7, 2)
    assert at.status.canary is not None
    assert (at.status.canary.state, at.status.canary_step) == ("promoted", None)
    assert (at.status.effective_arms, at.status.previous_arms) == ((Arm(adapter=CANDIDATE, share=1),), ARMS)


def test_a_canary_may_wait_for_a_person() -> None:
    """After its last step it stays there, for a person to promote it."""
    at = route(CANARY.model_copy(update={"then": "wait", "steps": (0.1,)}))
    status = decide(at, evidence(), Moment(2_000.0, 20))
    assert (status.canary and status.canary.state, status.effective_arms) == (
        "waiting",
        at.status.effective_arms,
    )


def test_proof_may_be_asked_for() -> None:
    """With `evidence` proof, a step is passed only when the difference is below its limit for certain."""
    strict = route(CANARY.model_copy(update={"evidence": "proof"}))
    waits = decide(strict, evidence(units=99), Moment(1_001.0, 20))
    goes_on = decide(strict, evidence(units=99, high=0.04), Moment(1_001.0, 20))
    assert [status.canary and status.canary.step for status in (waits, goes_on)] == [1, 2]


def test_a_breach_says_which_with_its_figures() -> None:
    """Name, interval, limit, means and units are in the reason, and as numbers in the status."""
    status = decide(route(), evidence(breached=True), Moment(1_001.0, 20)).canary
    assert status is not None
    assert status.reason == (
        "errors is breached: the difference to the stable arm is between -0.200 and 0.200 "
        "(0.010 against 0.010), and the limit is 0.05; 10 against 100 units"
    )
    assert status.figures["guardrails"]["errors"]["limit"] == 0.05
    hard = decide(route(), evidence(hard_stop=True), Moment(1_001.0, 20)).canary
    assert hard is not None
    assert hard.reason == "the last 5 requests of s@2 failed in a row"


# --- commands ------------------------------------------------------------------------------------------

NOW = Moment(5_000.0, 50)
COMMANDS: dict[str, Callable[[Route], RouteStatus]] = {
    "pause": lambda at: steps.paused(at, NOW),
    "resume": lambda at: steps.resumed(at, NOW),
    "abort": steps.aborted,
    "restart": lambda at: steps.restarted(at, NOW),
}


@pytest.mark.parametrize(
    ("state", "possible"),
    [
        ("running", {"pause": "paused", "abort": "aborted"}),
        ("held", {"pause": "paused", "resume": "running", "abort": "aborted"}),
        ("paused", {"resume": "running", "abort": "aborted"}),
        ("waiting", {"abort": "aborted"}),
        ("promoted", {}),
        ("rolled_back", {"restart": "running"}),
        ("aborted", {"restart": "running"}),
    ],
)
def test_what_commands_do(state: str, possible: dict[str, str]) -> None:
    """From each state some are possible; the others say why not and change nothing."""
    for name, command in COMMANDS.items():
        if name in possible:
            status = command(route(state=state)).canary
            assert status is not None
            assert (name, status.state) == (name, possible[name])
        else:
            with pytest.raises(NotPossible, match=f"can't {name}"):
                command(route(state=state))


def test_there_may_be_no_canary() -> None:
    """Commands on a route without one say so."""
    plain = Route(name="r", spec=RouteSpec(arms=ARMS), generation=1, status=RouteStatus())
    for command in COMMANDS.values():
        with pytest.raises(NotPossible, match="no canary"):
            command(plain)


def test_a_pause_does_not_use_up_the_deadline() -> None:
    """The step's clock stands still while it is paused; after a hold it begins anew."""
    after_pause = steps.resumed(route(state="paused", paused_at=3_000.0), NOW).canary
    after_hold = steps.resumed(route(state="held"), NOW).canary
    assert after_pause is not None
    assert after_hold is not None
    assert (after_pause.step_at, after_hold.step_at) == (3_000.0, 5_000.0)


def test_a_restart_has_no_past() -> None:
    """It begins with the first step, and units of before do not count."""
    status = steps.restarted(route(state="rolled_back", step=2, reason="bad"), NOW)
    assert status.canary == CanaryStatus(
        candidate=CANDIDATE, stable=STABLE, share=0.1, started_at=5_000, step_at=5_000,
        after_generation=50, step_after_generation=50,
    )  # fmt: skip
    preparing = route(state="aborted")
    preparing = preparing.model_copy(
        update={"status": preparing.status.model_copy(update={"state": "preparing"})}
    )
    with pytest.raises(NotPossible, match="wait until it is active"):
        steps.restarted(preparing, NOW)


# --- shares and faults ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arms", "share", "expected"),
    [
        ({"a@1": 1.0}, 0.25, {"a@1": 0.75, "c@1": 0.25}),
        ({"a@1": 0.8, "b@1": 0.2}, 0.5, {"a@1": 0.4, "b@1": 0.1, "c@1": 0.5}),
        ({"a@1": 0.5, "c@1": 0.5}, 0.25, {"a@1": 0.75, "c@1": 0.25}),
        ({"a@1": 1.0, "b@1": 0.0}, 0.25, {"a@1": 0.75, "c@1": 0.25}),
        ({"a@1": 1.0}, 1.0, {"c@1": 1.0}),
        ({"c@1": 1.0}, 0.5, {"c@1": 1.0}),
    ],
)
def test_where_a_candidates_share_comes_from(
    arms: dict[str, float], share: float, expected: dict[str, float]
) -> None:
    """From all other arms alike, so that they keep their proportions."""
    made = tuple(Arm(adapter=label, share=part) for label, part in arms.items())
    found = {arm.adapter: round(arm.share, 9) for arm in arms_with(made, "c@1", share)}
    assert found == expected
    assert stable_of(made, "c@1") == ("a@1" if "a@1" in arms else None)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, None),
        ({"steps": (0.5,)}, None),
        ({"steps": (1.0,)}, "between 0 and 1"),
        ({"steps": ()}, "between 0 and 1"),
        ({"steps": (0.5, 0.1)}, "must grow"),
        ({"steps": (0.0, 0.1)}, "must grow"),
        ({"candidate": STABLE}, "is an arm already"),
        ({"guardrails": {"thumbs": 0.1, "cut_by_length": 0.1}}, None),
        ({"guardrails": {"stars": 0.1}}, "no metric of this route"),
        ({"guardrails": {"words": 0.1}}, "texts"),
        ({"guardrails": {"seconds": 0.1}}, "without a range"),
        ({"guardrails": {"errors": 0.0}}, "between 0 and 1"),
        ({"guardrails": {"errors": 1.0}}, "between 0 and 1"),
    ],
)
def test_what_is_wrong_with_a_canary(changes: dict[str, object], word: str | None) -> None:
    """Each fault is named, and a canary that can be run has none."""
    metrics = {"thumbs": Metric(), "words": Metric(type="string"), "seconds": Metric(type="number")}
    found = faults(CANARY.model_copy(update=changes), ARMS, metrics)
    assert (found == []) if word is None else (word in " ".join(found))
