"""The controller's pure parts: what to do on a replica, a route's status, distances."""

import pytest

from gateway.controller.reconcile import (
    Action,
    Attest,
    Forget,
    Register,
    Unregister,
    Wanted,
    actions,
    retry_after_s,
)
from gateway.controller.routes import FleetView, needed_versions, next_status, shadow_versions
from gateway.core.canary import Canary, CanaryStatus
from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, Route, RouteSpec, RouteState, RouteStatus, Shadow
from gateway.core.steps import Moment
from gateway.store.fleet import RegistrationRow, RegistrationState, ReplicaRow

A1, A2, B1, C1 = VersionRef("a", 1), VersionRef("a", 2), VersionRef("b", 1), VersionRef("c", 1)
NOW = 1000.0


def row(
    ref: VersionRef,
    state: RegistrationState,
    *,
    replica: str = "r0",
    at: float = NOW,
    failures: int = 1,
    reason: str | None = None,
) -> RegistrationRow:
    """A registration on incarnation "1"."""
    figures = {"attempts": failures} if state == "failed" else None
    return RegistrationRow(replica, ref, "1", "d", state, figures, reason, at)


# --- what to do on one replica -------------------------------------------------------------------------

WANT = Wanted(A1, "d", "/blobs/d")


@pytest.mark.parametrize(
    ("rows", "listed", "expected"),
    [
        ([], {}, [Register(WANT, None)]),
        ([], {"a@1": "/blobs/d"}, [Register(WANT, "/blobs/d")]),
        ([], {"a@1": "/else"}, [Register(WANT, "/else")]),
        ([row(A1, "registered")], {"a@1": "/blobs/d"}, [Attest(WANT)]),
        ([row(A1, "registered")], {}, [Register(WANT, None)]),
        ([row(A1, "attested")], {"a@1": "/blobs/d"}, []),
        ([row(A1, "attested")], {}, [Register(WANT, None)]),
        ([row(A1, "attested")], {"a@1": "/else"}, [Register(WANT, "/else")]),
        ([row(A1, "attested", at=NOW - 60)], {"a@1": "/blobs/d"}, [Attest(WANT, again=True)]),
        ([row(A1, "failed", at=NOW - 1.9)], {"a@1": "/blobs/d"}, []),
        ([row(A1, "failed", at=NOW - 2)], {"a@1": "/blobs/d"}, [Register(WANT, "/blobs/d", retry=True)]),
        ([row(A1, "failed", at=NOW - 2, failures=2)], {}, []),
        ([row(A1, "failed", at=NOW - 4, failures=2)], {}, [Register(WANT, None, retry=True)]),
    ],
)
def test_one_wanted_version(
    rows: list[RegistrationRow], listed: dict[str, str], expected: list[Action]
) -> None:
    """What is done about a version that should stand here, by its row and by what the engine lists."""
    assert actions([WANT], rows, listed, now=NOW, attest_every_s=60) == expected


def test_the_order_of_what_is_done() -> None:
    """Traffic is taken off first, then versions in their order, ageing proofs after them, clearing last."""
    wanted = [Wanted(ref, "d", f"/{ref}") for ref in (A1, A2, B1)]
    rows = [row(A1, "attested", at=0.0), row(C1, "attested")]
    listed = {"a@1": "/a@1", "c@1": "/c@1", "stray": "/stray"}
    assert actions(wanted, rows, listed, now=NOW, attest_every_s=60) == [
        Forget(C1),
        Register(wanted[1], None),
        Register(wanted[2], None),
        Attest(wanted[0], again=True),
        Unregister("stray"),
    ]


def test_failures_are_tried_again_ever_more_rarely() -> None:
    """Two seconds, doubled each time, five minutes at most."""
    assert [retry_after_s(n) for n in (0, 1, 2, 3, 8, 9, 10_000)] == [2, 2, 4, 8, 256, 300, 300]


# --- the status of a route -----------------------------------------------------------------------------


def replica(name: str, *, healthy: bool = True) -> ReplicaRow:
    """A replica on incarnation "1"."""
    return ReplicaRow(name, "http://x", None, "1", healthy, None, None, {})


def route(*labels: str, state: RouteState = "preparing", fallback: str | None = None) -> Route:
    """A route at generation 5 whose spec of generation 4 sent everything to c@1."""
    arms = tuple(Arm(adapter=label, share=1 / len(labels)) for label in labels)
    status = RouteStatus(
        state=state,
        active_generation=5 if state == "active" else 4,
        effective_arms=arms if state == "active" else (Arm(adapter="c@1", share=1),),
    )
    return Route(name="r", spec=RouteSpec(arms=arms, fallback=fallback), generation=5, status=status)


TWO = (replica("r0"), replica("r1"))


@pytest.mark.parametrize(
    ("wanted", "replicas", "rows", "min_ready", "state", "reason"),
    [
        (route("a@1"), TWO, [], 1, "preparing", None),
        (route("a@1"), (), [], 1, "preparing", "no engine is healthy"),
        (route("a@1"), TWO, [row(A1, "registered")], 1, "attesting", None),
        (route("a@1"), TWO, [row(A1, "attested")], 1, "active", None),
        (route("a@1"), TWO, [row(A1, "attested")], 2, "preparing", None),
        (route("a@1"), TWO, [row(A1, "attested"), row(A1, "registered", replica="r1")], 2, "attesting", None),
        (route("a@1"), TWO, [row(A1, "attested"), row(A1, "attested", replica="r1")], 2, "active", None),
        (route("a@1"), (replica("r0"),), [row(A1, "attested")], 2, "active", None),
        (
            route("a@1"),
            (replica("r0"), replica("r1", healthy=False)),
            [row(A1, "attested", replica="r1")],
            1,
            "preparing",
            None,
        ),
        (route("a@1"), TWO, [row(A1, "failed", reason="bad")], 1, "preparing", "a@1 on r0: bad"),
        (
            route("a@1"),
            TWO,
            [row(A1, "failed", reason="bad"), row(A1, "attested", replica="r1")],
            2,
            "failed",
            "a@1 on r0: bad",
        ),
        (
            route("a@1"),
            TWO,
            [row(A1, "failed", reason="bad"), row(A1, "attested", replica="r1")],
            1,
            "active",
            None,
        ),
        (route("a@1", "b@1"), TWO, [row(A1, "attested")], 1, "preparing", None),
        (route("a@1", "b@1"), TWO, [row(A1, "attested"), row(B1, "attested")], 1, "active", None),
        (route("a@1", fallback="b@1"), TWO, [row(A1, "attested")], 1, "preparing", None),
        (route("base"), TWO, [], 1, "active", None),
        (route("base"), (replica("r0", healthy=False),), [], 1, "preparing", "no engine is healthy"),
        (route("a@2"), TWO, [], 1, "failed", "a@2 is retired"),
        (route("a@1", state="active"), TWO, [row(A1, "attested")], 1, "active", None),
        (route("a@1", state="active"), TWO, [], 1, "active", "a@1 is ready on no replica"),
        (
            route("a@1", state="active"),
            TWO,
            [row(A1, "failed", reason="bad")],
            1,
            "active",
            "a@1 on r0: bad",
        ),
    ],
)
def test_the_status_of_a_route(  # noqa: PLR0917 - a table's columns
    wanted: Route,
    replicas: tuple[ReplicaRow, ...],
    rows: list[RegistrationRow],
    min_ready: int,
    state: str,
    reason: str | None,
) -> None:
    """State and reason by what is attested where; the arms move only to active, and then whole."""
    fleet = FleetView.of(replicas, tuple(rows))
    status = next_status(wanted, fleet, absent={A2: "is retired"}, min_ready=min_ready)
    assert (status.state, status.reason) == (state, reason)
    if state == "active":
        assert (status.effective_arms, status.active_generation) == (wanted.spec.arms, 5)
    else:
        assert status.effective_arms == wanted.status.effective_arms
        assert status.active_generation == 4


def test_rows_of_an_ended_incarnation_count_for_nothing() -> None:
    """What was attested on an engine that has restarted since is not ready."""
    reborn = ReplicaRow("r0", "http://x", None, "2", True, None, None, {})
    fleet = FleetView.of((reborn,), (row(A1, "attested"),))
    assert next_status(route("a@1"), fleet, absent={}, min_ready=1).state == "preparing"


def test_a_shadow_holds_up_nothing() -> None:
    """A route flips without its shadow, and says afterwards why the shadow gets nothing yet."""
    spec = RouteSpec(arms=(Arm(adapter="base", share=1),), shadow=Shadow(adapter="b@1", share=0.1))
    wanted = Route(name="r", spec=spec, generation=5, status=RouteStatus())
    flipped = next_status(wanted, FleetView.of(TWO, ()), absent={}, min_ready=1)
    assert (flipped.state, flipped.reason) == ("active", None)
    active = wanted.model_copy(update={"status": flipped})
    noted = next_status(active, FleetView.of(TWO, ()), absent={}, min_ready=1)
    assert (noted.state, noted.reason) == ("active", "shadow: b@1 is ready on no replica")
    there = FleetView.of(TWO, (row(B1, "attested"),))
    assert next_status(active, there, absent={}, min_ready=1).reason is None
    assert (shadow_versions(active), needed_versions(active)[1]) == ({B1}, frozenset())


def canary_route(canary: Canary, status: RouteStatus | None = None) -> Route:
    """A route at generation 5 on the base model, with a canary."""
    spec = RouteSpec(arms=(Arm(adapter="base", share=1),), canary=canary)
    return Route(name="r", spec=spec, generation=5, status=status or RouteStatus())


def test_a_canary_begins_with_its_first_step() -> None:
    """When the candidate is attested it gets the first step's share, and its beginning is in the status."""
    wanted = canary_route(Canary(candidate="a@1", steps=(0.2, 1.0)))
    fleet = FleetView.of(TWO, ())
    assert next_status(wanted, fleet, absent={}, min_ready=1).state == "preparing"
    fleet = FleetView.of(TWO, (row(A1, "attested"),))
    status = next_status(wanted, fleet, absent={}, min_ready=1, moment=Moment(77.0, 9))
    assert status.effective_arms == (Arm(adapter="base", share=0.8), Arm(adapter="a@1", share=0.2))
    assert status.canary == CanaryStatus(
        candidate="a@1", stable="base", share=0.2, started_at=77, step_at=77,
        after_generation=9, step_after_generation=9,
    )  # fmt: skip
    active = wanted.model_copy(update={"status": status})
    assert next_status(active, fleet, absent={}, min_ready=1, moment=Moment(99.0, 11)) == status


def test_a_canary_goes_on_under_a_new_spec() -> None:
    """Where the spec's canary and arms stayed the same, its step and its traffic stay as well."""
    wanted = canary_route(Canary(candidate="a@1", steps=(0.2, 0.5)))
    fleet = FleetView.of(TWO, (row(A1, "attested"),))
    status = next_status(wanted, fleet, absent={}, min_ready=1, moment=Moment(77.0, 9))
    again = wanted.model_copy(
        update={"generation": 12, "status": status.model_copy(update={"state": "preparing"})}
    )
    went_on = next_status(again, fleet, absent={}, min_ready=1, moment=Moment(99.0, 13))
    assert went_on == status.model_copy(update={"active_generation": 12})


@pytest.mark.parametrize(
    ("state", "needed"),
    [("running", True), ("held", True), ("promoted", True), ("rolled_back", False), ("aborted", False)],
)
def test_a_candidate_that_was_sent_away_is_not_needed(state: str, needed: bool) -> None:
    """Its engine may forget it; one that has traffic, or may get some, stays."""
    wanted = canary_route(Canary(candidate="a@1"))
    begun = next_status(wanted, FleetView.of(TWO, (row(A1, "attested"),)), absent={}, min_ready=1)
    assert begun.canary is not None
    status = begun.model_copy(update={"canary": begun.canary.model_copy(update={"state": state})})
    assert (A1 in needed_versions(wanted.model_copy(update={"status": status}))[1]) is needed


def test_a_canary_that_cannot_be_run_says_why() -> None:
    """A stored spec that this version refuses serves its arms, and the reason is in the status."""
    wanted = canary_route(Canary(candidate="a@1", steps=(1.0,), guardrails={"thumbs": 0.1}))
    status = next_status(wanted, FleetView.of(TWO, (row(A1, "attested"),)), absent={}, min_ready=1)
    assert (status.effective_arms, status.canary) == (wanted.spec.arms, None)
    assert (status.reason or "").startswith("the canary can't be run: a canary needs a step between 0 and 1")
    assert "thumbs" in (status.reason or "")


def test_what_a_route_needs() -> None:
    """Old arms serve until the flip; the new spec's arms and fallback are wanted."""
    assert needed_versions(route("a@1", fallback="b@1")) == ({C1}, {A1, B1})
    assert needed_versions(route("a@1", state="active", fallback="b@1")) == ({A1, B1}, {A1, B1})
