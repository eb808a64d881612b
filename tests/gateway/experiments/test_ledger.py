"""Ledgers: looking often finds what looking once finds, also when rows come late."""

import random

from gateway.core.canary import Canary, Slo
from gateway.core.routes import Metric
from gateway.experiments.document import document
from gateway.experiments.experiment import Experiment
from gateway.experiments.findings import examine
from gateway.experiments.ledger import Ledger
from tests.gateway.experiments.made import CANDIDATE, STABLE, Traffic


def test_however_often_one_looks() -> None:
    """At every look a carried-on ledger gives the very findings that a new one gives.

    Subjects come back under other shares, ratings come for some, and every tenth row reaches the store only
    after the look that it would have been in.
    """
    traffic = Traffic({STABLE: 0.8, CANDIDATE: 0.2}, gap_s=10.0)
    made = random.Random(9)
    for shares in ({STABLE: 0.5, CANDIDATE: 0.5}, {STABLE: 0.2, CANDIDATE: 0.8}):
        traffic.run(
            150,
            subject=lambda n: f"user {made.randrange(80)}" if n % 3 else None,
            fails={CANDIDATE: 0.1},
            liked={STABLE: 0.7, CANDIDATE: 0.5},
            rates=0.4,
        )
        traffic.change(shares)
    experiment = Experiment(
        "r",
        STABLE,
        (CANDIDATE,),
        traffic.epochs,
        metrics={"thumbs": Metric(window_h=0.1)},
        slo=Slo(window_s=60),
        canary=Canary(candidate=CANDIDATE, guardrails={"thumbs": 0.1, "errors": 0.1}),
    )
    ledger = Ledger()
    for now in range(1_100, 5_000, 300):
        there = [a for n, a in enumerate(traffic.answers) if a.ended_at <= now - (400 if n % 10 == 0 else 0)]
        carried = examine(experiment, there, traffic.said, until=float(now), ledger=ledger)
        anew = examine(experiment, there, traffic.said, until=float(now))
        assert document(carried) == document(anew)
    assert document(anew)["candidates"][CANDIDATE]["metrics"]["thumbs"]["candidate_units"] > 30
