"""How often canaries are wrong, by what the controller itself calls: small, with fixed seeds."""

import random

import pytest

from gateway.controller.canary import decide
from gateway.core import steps
from gateway.core.canary import Canary, Slo
from gateway.core.routes import Arm, Metric, Route, RouteSpec, RouteStatus
from gateway.core.steps import Moment
from gateway.experiments.choice import experiment_of
from gateway.experiments.findings import examine
from gateway.experiments.ledger import Ledger
from tests.gateway.experiments.made import CANDIDATE, STABLE, Traffic

CANARIES = 20
LOOK_EVERY = 50
MOST_REQUESTS = 900


def run_canary(seed: int, *, worse: float) -> tuple[str, int]:
    """Run one canary until it ends; return how, and how many requests its candidate answered."""
    canary = Canary(
        candidate=CANDIDATE, steps=(0.1, 0.3, 1.0), min_units=40, guardrails={"errors": 0.02, "thumbs": 0.05}
    )
    arms = (Arm(adapter=STABLE, share=1.0),)
    metrics = {"thumbs": Metric(window_h=0.001)}
    spec = RouteSpec(arms=arms, canary=canary, metrics=metrics, slo=Slo(window_s=0))
    status = steps.begun(spec, RouteStatus(state="active", effective_arms=arms), Moment(0.0, 0))
    route = Route(name="r", spec=spec, generation=1, status=status)
    traffic = Traffic({STABLE: 0.9, CANDIDATE: 0.1}, dice=random.Random(seed))
    traffic.generation = 1 + seed * 10_000  # other requests, so other draws
    traffic.epochs = {traffic.generation: traffic.shares}
    traffic.answers, first = [], f"canary {seed} "
    ledger = Ledger()
    while len(traffic.answers) < MOST_REQUESTS and route.status.canary and route.status.canary.live:
        traffic.run(
            LOOK_EVERY,
            subject=lambda n: f"{first}{len(traffic.answers)} {n}",
            fails={STABLE: 0.05, CANDIDATE: 0.05 + worse},
            liked={STABLE: 0.8, CANDIDATE: 0.8 - worse},
        )
        experiment = experiment_of(route, traffic.epochs, digests={})
        assert experiment is not None
        found = examine(experiment, traffic.answers, traffic.said, until=traffic.now + 60, ledger=ledger)
        status = decide(route, found, Moment(traffic.now, traffic.generation))
        if status.effective_arms != route.status.effective_arms:
            traffic.change({arm.adapter: arm.share for arm in status.effective_arms})
        route = route.model_copy(update={"status": status})
    ended = route.status.canary
    assert ended is not None
    return ended.state, sum(answer.arm == CANDIDATE for answer in traffic.answers)


@pytest.mark.slow
def test_equal_candidates_are_not_rolled_back() -> None:
    """Looked at after every 50 requests, at most one in twenty is, and most are promoted."""
    ends = [run_canary(seed, worse=0.0)[0] for seed in range(CANARIES)]
    assert ends.count("rolled_back") <= CANARIES * 0.05
    assert ends.count("promoted") >= CANARIES * 0.5


@pytest.mark.slow
def test_bad_candidates_are_rolled_back() -> None:
    """Ones that are 30 points worse on both guardrails are, before they have answered many requests."""
    ends = [run_canary(seed, worse=0.3) for seed in range(CANARIES // 2)]
    assert [state for state, _ in ends].count("rolled_back") == len(ends)
    assert sorted(answered for _, answered in ends)[len(ends) // 2] < 150
