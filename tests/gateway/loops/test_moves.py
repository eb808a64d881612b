"""What a run does next."""

from typing import Any

import pytest

from gateway.core.canary import Canary
from gateway.core.documents import Arm
from gateway.core.routes import Metric, Route, Shadow
from gateway.loops.moves import BACKOFF_S, next_move
from gateway.loops.rollout import settled, with_canary, with_shadow, without
from gateway.loops.run import OPEN, Run
from gateway.loops.sight import Move, Seen, Step
from tests.gateway.loops import made
from tests.gateway.loops.made import CURATED, HOUR

PASSED = {"verdict": "passed", "reason": "better on the new rows, not worse on the old ones"}
FAILED = {"verdict": "failed", "reason": "worse on the old rows"}
FEW = {"verdict": "too_few_rows", "reason": "412 rows are needed"}
ASKS = {"verdict": "needs_approval", "reason": "no row is from a trusted source"}
POOR = {"curate": {**CURATED, "trusted_held_out_new": 3}}
SHADOW = {"share": 0.1, "hours": 2}


def done(result: dict[str, Any]) -> Step:
    """Return a step that left this result."""
    return Step("done", result=result)


def move_of(run: Run, step: Step = Step(), *, age_s: float = 10.0, **seen: Any) -> Move:  # noqa: B008 - frozen
    """Return the move of a run on an active route."""
    return next_move(run, Seen(age_s=age_s, step=step, **{"route": made.route(), **seen}))


@pytest.mark.parametrize(
    ("state", "policy", "step", "to"),
    [
        ("proposed", {}, Step(), "curating"),
        ("proposed", {"approve": "always"}, Step(), "waiting_approval"),
        ("curating", {}, done(CURATED), "training"),
        ("curating", {"dry_run": True}, done(CURATED), "dry_run"),
        ("curating", {"min_new_examples": 501}, done(CURATED), "too_little_data"),
        ("curating", {}, done({"outcome": "too_little_data", "reason": "3 rows"}), "too_little_data"),
        ("curating", {}, done({"outcome": "waiting_review"}), "waiting_review"),
        ("curating", {}, done({"outcome": "fine"}), "failed"),
        ("curating", {}, done({**CURATED, "rows": "many"}), "failed"),
        ("curating", {}, done({**CURATED, "method": "rm -rf"}), "failed"),
        ("training", {}, done({"version": "support@2"}), "gating"),
        ("training", {}, done({"version": None}), "failed"),
        ("gating", {}, done(PASSED), "canary"),
        ("gating", {"shadow": SHADOW}, done(PASSED), "shadowing"),
        ("gating", {"approve": "always"}, done(PASSED), "waiting_approval"),
        ("gating", {}, done(FAILED), "gate_failed"),
        ("gating", {}, done(FEW), "gate_failed"),
        ("gating", {}, done(ASKS), "waiting_approval"),
        ("gating", {"approve": "never"}, done(ASKS), "gate_failed"),
        ("gating", {}, done({"verdict": "perfect"}), "failed"),
    ],
)
def test_where_a_run_goes(state: str, policy: dict[str, Any], step: Step, to: str) -> None:
    """From what a step said, by the policy; what can't be read is a failure."""
    assert move_of(made.run(state, policy=made.policy(**policy)), step).to == to


def test_a_gate_that_passed_on_untrusted_rows_is_no_pass() -> None:
    """The loop asks for trusted held-out rows itself, whatever the gate says, since this opens traffic."""
    for approve, to in (("untrusted", "waiting_approval"), ("never", "gate_failed")):
        run = made.run("gating", policy=made.policy(approve=approve), results=POOR)
        move = move_of(run, done(PASSED))
        assert (move.to, move.updates["verdict"]) == (to, "passed")
        assert "3 new held-out rows" in str(move.reason)


@pytest.mark.parametrize(
    ("step", "attempt", "act", "to", "says"),
    [
        (Step("idle"), 0, "start", None, None),
        (Step("running"), 1, None, None, None),
        (Step("blocked", reason="1.0 GiB are free"), 0, None, None, "1.0 GiB are free"),
        (Step("elsewhere", reason="on host b"), 1, None, None, "on host b"),
        (Step("refused", reason="pip install"), 0, None, "failed", "pip install"),
        (Step("died", reason="exit code 1", age_s=BACKOFF_S), 1, "start", None, "tried again"),
        (Step("died", reason="exit code 1", age_s=BACKOFF_S / 2), 1, None, None, "tried again"),
        (Step("died", reason="exit code 1", age_s=BACKOFF_S), 2, None, "failed", "tried 2 times"),
        (Step("died", reason="exit code 2", again=False, age_s=BACKOFF_S), 1, None, "failed", "exit code 2"),
    ],
)
def test_how_a_step_is_worked_on(
    step: Step, attempt: int, act: str | None, to: str | None, says: str | None
) -> None:
    """It is started, waited for, tried again as often as the policy has it, and given up with the reason."""
    for state in ("curating", "training", "gating"):
        move = move_of(made.run(state, attempt=attempt), step)
        assert (move.act, move.to) == (act, to)
        assert says is None or says in str(move.reason)


def test_a_pause_lets_what_works_work_and_starts_nothing() -> None:
    """A step that runs goes on; none is started or tried again, and reviewed rows are not trained on."""
    assert move_of(made.run("proposed"), paused=True).to is None
    assert move_of(made.run("training"), Step("idle"), paused=True).act is None
    assert move_of(made.run("training"), Step("died", age_s=1e9), paused=True).act is None
    assert move_of(made.run("waiting_review"), paused=True, unreviewed=0).to is None
    assert move_of(made.run("training"), done({"version": "support@2"}), paused=True).to == "gating"


def test_a_run_waits_for_a_place() -> None:
    """No run becomes one of those that work while as many as may are working."""
    assert move_of(made.run("proposed"), place=False).to is None
    assert move_of(made.run("waiting_review"), place=False, unreviewed=0).to is None


@pytest.mark.parametrize(("unreviewed", "to"), [(None, None), (3, None), (0, "curating")])
def test_rows_are_reviewed_before_they_count(unreviewed: int | None, to: str | None) -> None:
    """A run goes on when nothing is left to review."""
    assert move_of(made.run("waiting_review"), unreviewed=unreviewed).to == to


@pytest.mark.parametrize(
    ("candidate", "approvals", "policy", "to"),
    [
        (None, {}, {}, None),
        (None, {"start": {"by": "ada"}}, {}, "proposed"),
        ("support@2", {"start": {"by": "ada"}}, {}, None),
        ("support@2", {"rollout": {"by": "ada"}}, {}, "canary"),
        ("support@2", {"rollout": {"by": "ada"}}, {"shadow": SHADOW}, "shadowing"),
    ],
)
def test_what_an_approval_opens(
    candidate: str | None, approvals: dict[str, Any], policy: dict[str, Any], to: str | None
) -> None:
    """To start and to meet traffic are approved apart: the one is not the other."""
    run = made.run("waiting_approval", candidate=candidate, approvals=approvals, policy=made.policy(**policy))
    assert move_of(run).to == to


@pytest.mark.parametrize("state", sorted(OPEN - {"proposed"}))
def test_what_takes_too_long_is_ended(state: str) -> None:
    """After its deadline a run ends, its process first; what waits for people is rejected."""
    run = made.run(state)
    late = move_of(run, Step("running" if run.working else "idle"), age_s=1e9)
    if run.working:
        assert (late.act, late.to) == ("kill", None)
        late = move_of(run, Step("died", reason="signal 15"), age_s=1e9)
    waits = state.startswith("waiting")
    assert late.to == ("rejected" if waits else "rolled_back" if state == "canary" else "failed")


@pytest.mark.parametrize(
    ("run", "seen", "to"),
    [
        (made.run("training"), {"step": done({"version": "support@2"})}, "gating"),
        (made.run("waiting_approval", approvals={"start": {"by": "ada"}}), {}, "proposed"),
        (made.run("canary", generation=5), {"route": made.canarying("promoted")}, "promoted"),
        (made.run("waiting_review"), {"unreviewed": 0, "place": True}, "curating"),
        (made.run("waiting_review"), {"unreviewed": 0, "place": False}, None),
    ],
)
def test_an_end_that_nobody_saw_in_time_counts(run: Run, seen: dict[str, Any], to: str) -> None:
    """A result, a word or a promotion from while no controller was there is taken after the deadline too."""
    assert next_move(run, Seen(**{"age_s": 1e9, "route": made.route(), **seen})).to == to


@pytest.mark.parametrize("state", sorted(OPEN))
def test_a_run_that_is_rejected_or_has_lost_its_route_ends(state: str) -> None:
    """Its process is ended first, and a route's spec lets go of its candidate."""
    stopped = made.run(state, stop={"by": "ada", "why": "no"})
    assert move_of(stopped, Step("running")).act == "kill"
    assert move_of(stopped).to == "rejected"
    assert move_of(stopped).reason == "rejected by ada: no"
    assert move_of(made.run(state), route=None).to == "rejected"
    on_it = made.route(shadow=Shadow(adapter="support@2", share=0.1))
    if state in ("shadowing", "canary"):
        assert move_of(stopped, route=on_it) == Move("rejected", "rejected by ada: no", act="clear")
    else:
        assert move_of(made.run(state), route=made.route(loop=None)).to == "rejected"


def test_a_route_that_cannot_be_read_ends_nothing() -> None:
    """It may have a loop that this release can't read: the run waits for whoever mends it."""
    broken = made.route(loop=None).model_copy(update={"fault": "bad"})
    assert move_of(made.run("training"), route=broken).to is None


def _arm(label: str, *, canary: Canary | None = None) -> Route:
    return made.route(arm=label, canary=canary)


@pytest.mark.parametrize(
    ("run", "route", "act", "to"),
    [
        # not on the route yet
        ({}, made.route(), "canary", None),
        ({}, _arm("support@7"), None, "failed"),
        ({}, made.canarying("running", candidate="support@9"), None, None),
        ({}, made.canarying("rolled_back", candidate="support@9"), "canary", None),
        ({}, made.canarying("promoted", candidate="support@9"), None, "failed"),
        ({"champion": "support@9"}, made.canarying("promoted", candidate="support@9"), "canary", None),
        ({}, _arm("support@1", canary=Canary(candidate="support@9")), None, None),
        ({}, _arm("support@2"), None, "promoted"),
        ({"policy": made.policy(canary={"guardrails": {"thumbs": 0.05}})}, made.route(), None, "failed"),
        # followed
        ({"generation": 5}, made.canarying("running"), None, None),
        ({"generation": 5}, made.canarying("held"), None, None),
        ({"generation": 5}, made.canarying("promoted"), "settle", "promoted"),
        ({"generation": 5}, made.canarying("rolled_back"), "clear", "rolled_back"),
        ({"generation": 5}, made.canarying("aborted"), "clear", "rolled_back"),
        # a controller was killed between the two writes
        ({}, made.canarying("running"), None, None),
        ({"generation": 5}, _arm("support@2"), None, "promoted"),
        ({"generation": 5}, made.route(), None, "rolled_back"),
    ],
)
def test_how_a_canary_is_followed(run: dict[str, Any], route: Route, act: str | None, to: str | None) -> None:
    """It begins on the version that the gate knew and ends as the experiment does; a person's word counts."""
    move = move_of(made.run("canary", **run), route=route)
    assert (move.act, move.to) == (act, to)


def test_a_candidate_that_cannot_be_served_is_taken_out() -> None:
    """A route that stays failed with the canary gets its old spec again; a short failure is waited for."""
    known = made.route(canary=Canary(candidate="support@2"))
    failed = known.model_copy(
        update={"status": known.status.model_copy(update={"state": "failed", "reason": "not attested"})}
    )
    run = made.run("canary", generation=5)
    assert move_of(run, route=failed, age_s=60).to is None
    late = move_of(run, route=failed, age_s=HOUR)
    assert (late.act, late.to) == ("clear", "failed")
    assert "not attested" in str(late.reason)


def test_a_shadow_comes_before_the_canary_when_the_policy_has_one() -> None:
    """For as long as the policy says; a shadow of somebody else is left alone."""
    run = made.run("shadowing", policy=made.policy(shadow=SHADOW))
    ours = made.route(shadow=Shadow(adapter="support@2", share=0.1))
    theirs = made.route(shadow=Shadow(adapter="support@9", share=0.1))
    assert move_of(run).act == "shadow"
    assert move_of(run, route=ours, age_s=HOUR) == Move()
    assert move_of(run, route=ours, age_s=2 * HOUR).to == "canary"
    assert move_of(run, route=theirs).to == "canary"
    assert move_of(run, route=_arm("support@7")).to == "failed"


def test_what_the_loop_puts_into_a_spec() -> None:
    """The candidate and nothing else changes; people's own shadow stays."""
    run = made.run("canary", policy=made.policy(shadow=SHADOW, canary={"steps": [0.1, 0.5], "min_units": 7}))
    plain = made.route(metrics={"thumbs": Metric()}).spec
    shadowed = with_shadow(plain, run)
    assert shadowed.shadow == Shadow(adapter="support@2", share=0.1)
    canary = with_canary(shadowed, run)
    assert (canary.shadow, canary.arms, canary.metrics) == (None, plain.arms, plain.metrics)
    assert canary.canary is not None
    assert (canary.canary.candidate, canary.canary.steps, canary.canary.min_units, canary.canary.then) == (
        "support@2",
        (0.1, 0.5),
        7,
        "promote",
    )
    assert without(canary, run) == plain
    assert settled(canary, run) == plain.model_copy(update={"arms": (Arm(adapter="support@2", share=1.0),)})
    theirs = plain.model_copy(update={"shadow": Shadow(adapter="support@9", share=0.2)})
    assert with_canary(theirs, run).shadow == theirs.shadow
