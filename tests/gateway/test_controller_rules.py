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
from gateway.controller.routes import FleetView, needed_versions, next_status
from gateway.core.canary import Canary
from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, Route, RouteSpec, RouteState, RouteStatus, Shadow
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


def test_canary_and_shadow_are_said_to_be_idle() -> None:
    """Parts of a spec that nothing acts on are named, and their versions hold up no route."""
    spec = RouteSpec(
        arms=(Arm(adapter="base", share=1),),
        canary=Canary(candidate="a@1"),
        shadow=Shadow(adapter="b@1", share=0.1),
    )
    wanted = Route(name="r", spec=spec, generation=5, status=RouteStatus())
    status = next_status(wanted, FleetView.of(TWO, ()), absent={}, min_ready=1)
    assert status.state == "active"
    assert status.reason == "canary and shadow are stored but not acted on by this version"


def test_what_a_route_needs() -> None:
    """Old arms serve until the flip; the new spec's arms and fallback are wanted."""
    assert needed_versions(route("a@1", fallback="b@1")) == ({C1}, {A1, B1})
    assert needed_versions(route("a@1", state="active", fallback="b@1")) == ({A1, B1}, {A1, B1})
