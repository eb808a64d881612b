"""What experiments read: requests in short pages, whole units of a sample, ratings that are scaled."""

import itertools

import pytest

from gateway.core.requests import RequestRow
from gateway.core.routes import Metric
from gateway.experiments.experiment import Experiment
from gateway.store import evidence
from gateway.store import requests as store_requests
from gateway.store.control import ControlStore
from gateway.store.epochs import EpochRow
from gateway.store.evidence import read_evidence
from gateway.store.feedback import FeedbackRow
from gateway.store.requests import Requests

EPOCHS = [EpochRow("r", 5, 1_000.0, {"a@1": 0.5, "b@1": 0.5})]
EXPERIMENT = Experiment("r", "a@1", ("b@1",), {5: EPOCHS[0].arms}, metrics={"thumbs": Metric()})


def row(number: int, **fields: object) -> RequestRow:
    """One request of the experiment; ids and units are as the gateway makes them."""
    usual = {
        "id": f"req-{number:08x}{number * 2654435761 % 2**96:024x}",
        "at": 1_000.0 + number // 3,
        "endpoint": "/v1/completions",
        "route": "r",
        "arm": "a@1",
        "adapter": "a@1",
        "generation": 5,
        "status": 200,
    }
    return RequestRow(**{**usual, **fields})  # type: ignore[arg-type]


def test_requests_of_an_experiment(requests: Requests, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of the route since its generation, in order, however the pages fall; internal ones are left out."""
    monkeypatch.setattr(store_requests, "_ANSWERS_AT_ONCE", 4)
    inside = [row(n, cold=n == 3) for n in range(10)]
    outside = [
        row(20, route="s"),
        row(21, generation=4),
        row(22, internal=True),
        row(23, arm=None, route=None),
        row(24, at=-5_000.0),
    ]
    requests.write([*outside, *reversed(inside)])
    found = list(requests.answers("r", since=1_000.0, from_generation=5))
    assert [answer.id for answer in found] == [each.id for each in inside]
    assert [answer.cold for answer in found].index(True) == 3
    assert requests.count("r", since=1_000.0, from_generation=5) == 10


def test_a_sample_is_of_whole_units(requests: Requests) -> None:
    """A smaller sample is part of a larger one, and no unit is torn."""
    unit = [f"{n * 2654435761 % 2**32:08x}{n:024x}" for n in range(40)]
    requests.write([row(n, unit=unit[n % 40] if n % 2 else None) for n in range(400)])
    samples = [
        {a.id: a.unit for a in requests.answers("r", since=1_000.0, from_generation=5, share=share)}
        for share in (1.0, 0.5, 0.25)
    ]
    assert len(samples[0]) == 400
    assert 150 < len(samples[1]) < 250
    for larger, smaller in itertools.pairwise(samples):
        assert smaller.items() <= larger.items()
        whole = {name for name, who in larger.items() if who and who in smaller.values()}
        assert whole <= smaller.keys()


def test_evidence_is_bounded(
    control: ControlStore, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Above the limit a half of the units is read, or a half of that; ratings are of known metrics."""
    requests.write([row(n) for n in range(400)])
    for metric, value in (("thumbs", True), ("thumbs", "odd"), ("stars", 3.0)):
        control.feedback.add(FeedbackRow("q", "r", "a@1", "a@1", metric, value, None, "k", 1_001.0))
    whole = read_evidence(requests, control.feedback, EXPERIMENT, EPOCHS)
    assert (len(whole.answers), whole.sampled) == (400, 1.0)
    assert [(said.metric, said.value) for said in whole.said] == [("thumbs", 1.0)]
    monkeypatch.setattr(evidence, "MOST_ROWS", 120)
    part = read_evidence(requests, control.feedback, EXPERIMENT, EPOCHS)
    assert part.sampled == 0.25
    assert 60 < len(part.answers) < 140


def test_the_pace_of_a_route(requests: Requests) -> None:
    """Units of the last day at most, each counted once, by the time that they took to come."""
    assert requests.units_per_day("r", now=2_000.0) == 0.0
    requests.write([row(n, at=1_000.0 + n, unit=f"u{n % 50}") for n in range(100)])
    assert requests.units_per_day("r", now=1_100.0) == pytest.approx(50 / 100 * 86_400)
    assert requests.units_per_day("r", now=1_000.0 + 2 * 86_400) == 0.0
    assert requests.units_per_day("s", now=1_100.0) == 0.0
