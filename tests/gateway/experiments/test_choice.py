"""Which experiment a route runs."""

import pytest

from gateway.core import steps
from gateway.core.canary import Canary
from gateway.core.routes import Arm, Route, RouteSpec, RouteStatus
from gateway.core.steps import Moment
from gateway.experiments.choice import experiment_of

A, B, C = "a@1", "b@1", "c@1"


def route(**shares: float) -> Route:
    """An active route with these arms of versions 1."""
    arms = tuple(Arm(adapter=f"{name}@1", share=share) for name, share in shares.items())
    status = RouteStatus(state="active", active_generation=1, effective_arms=arms)
    return Route(name="r", spec=RouteSpec(arms=arms), generation=1, status=status)


HISTORY = {
    1: {A: 1.0},
    2: {A: 0.5, B: 0.5},
    3: {A: 0.5, C: 0.5},
    4: {A: 0.9, B: 0.1},
    6: {A: 0.2, B: 0.8},
}


@pytest.mark.parametrize(
    ("now", "epochs", "stable", "since"),
    [
        ({"a": 0.2, "b": 0.8}, HISTORY, A, 4),
        ({"b": 0.8, "a": 0.2, "c": 0.0}, HISTORY, A, 4),
        ({"b": 1.0}, HISTORY, None, None),
        ({"a": 0.5, "c": 0.5}, HISTORY, None, None),
        ({"a": 0.5, "c": 0.5}, {}, None, None),
    ],
)
def test_plain_arms(
    now: dict[str, float], epochs: dict[int, dict[str, float]], stable: str | None, since: int | None
) -> None:
    """They are one experiment for as long as they have been the same, with whatever shares.

    Which of them is the stable one does not change with the shares. What has no epoch yet is none.
    """
    found = experiment_of(route(**now), epochs, digests={})
    assert (found and found.stable, found and min(found.epochs)) == (stable, since)


def canary_route(state: str) -> Route:
    """A route whose canary of b began after generation 3, in this state."""
    at = route(a=1.0)
    spec = at.spec.model_copy(update={"canary": Canary(candidate=B)})
    status = steps.begun(spec, at.status, Moment(0.0, 3))
    assert status.canary is not None
    status = status.model_copy(update={"canary": status.canary.model_copy(update={"state": state})})
    return at.model_copy(update={"spec": spec, "status": status})


@pytest.mark.parametrize(
    ("state", "watched"),
    [("running", True), ("held", True), ("paused", True), ("waiting", True), ("promoted", False)],
)
def test_a_canary_is_one_while_it_has_traffic(state: str, watched: bool) -> None:
    """With the epochs since it began, those of earlier attempts left out, and with its guardrails."""
    epochs = {2: {A: 0.95, B: 0.05}, 3: {A: 1.0}, 4: {A: 0.95, B: 0.05}}
    route = canary_route(state)
    salts = {2: "of the first attempt", 3: route.status.salt, 4: route.status.salt}
    found = experiment_of(route, epochs, digests={}, salts=salts)
    assert found is not None
    assert (found.canary is not None, sorted(found.epochs)) == (watched, [4])
    assert (found.stable, found.candidates) == (A, (B,))


@pytest.mark.parametrize(
    ("digests", "same"),
    [({A: "d", B: "d"}, True), ({A: "d", B: "e"}, False), ({A: "d"}, False), ({}, False)],
)
def test_the_same_blob_twice_is_an_a_a_experiment(digests: dict[str, str], same: bool) -> None:
    """Where it is known of every arm."""
    found = experiment_of(route(a=0.5, b=0.5), {1: {A: 0.5, B: 0.5}}, digests=digests)
    assert found is not None
    assert found.same_expected is same


def test_another_draw_is_another_experiment() -> None:
    """Epochs in which subjects were drawn by another salt are past: they can't tell who comes back."""
    halves = {A: 0.5, B: 0.5}
    epochs, salts = {1: {A: 0.9, B: 0.1}, 2: halves, 3: {A: 0.4, B: 0.6}}, {1: "old", 2: "new", 3: "new"}
    at = route(a=0.4, b=0.6)
    at = at.model_copy(update={"status": at.status.model_copy(update={"salt": "new"})})
    found = experiment_of(at, epochs, digests={}, salts=salts)
    assert found is not None
    assert sorted(found.epochs) == [2, 3]
