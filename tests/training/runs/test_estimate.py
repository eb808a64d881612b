"""Estimates: counted, computed, measured, or said to be unknown."""

import json

import pytest

from training.runs.estimate import Estimate, Time, speeds_of, steps_of, time_of
from training.runs.folder import RunState


@pytest.mark.parametrize(
    ("rows", "batch", "epochs", "steps"),
    [(100, 8, 1.0, 13), (100, 8, 3.0, 39), (7, 8, 0.5, 1), (16, 8, 0.5, 1)],
)
def test_steps_are_counted(rows: int, batch: int, epochs: float, steps: int) -> None:
    """A last batch that is not full is a step too."""
    assert steps_of(rows, batch, epochs) == steps


def test_time_says_what_it_rests_on() -> None:
    """Real steps first, then earlier runs, and otherwise nothing is claimed."""
    measured = time_of(100, 5000, measured_s=[0.4, 0.5, 9.0], speeds=[10.0])
    assert measured == Time(50.0, "3 real steps took 0.50 s each")
    assert time_of(100, 5000, speeds=[10.0, 50.0, 20.0]).seconds == 250.0
    assert "3 earlier runs" in time_of(100, 5000, speeds=[10.0, 50.0, 20.0]).rests_on
    unknown = time_of(100, 5000)
    assert unknown.seconds is None
    assert "--measure" in unknown.rests_on


def test_only_runs_that_are_alike_say_how_fast_a_run_is() -> None:
    """Another machine, model or method is another speed."""

    def state(*, host: str = "here", base: str = "b", method: str = "sft", speed: float = 9.0) -> RunState:
        return RunState(
            "x",
            "x",
            state="finished",
            host=host,
            base={"name": base},
            config={"method": method},
            tokens_per_s=speed,
        )

    states = [state(), state(host="there"), state(base="c"), state(method="dpo"), state(speed=11.0)]
    assert speeds_of(states, base={"name": "b"}, method="sft", host="here") == [9.0, 11.0]


def test_an_estimate_reads_for_people_and_machines() -> None:
    """Every figure is there in both, and memory says how it came about."""
    found = Estimate(
        rows={"train": 80, "validation": 10, "test": 10},
        too_long=2,
        steps=30,
        tokens=4000,
        longest=70,
        trained_weights=1_000_000,
        memory={
            "weights": 1 * 10**9,
            "unpacked": 0,
            "trained": 10**7,
            "activations": 5 * 10**8,
            "logits": 10**8,
        },
        free=4 * 10**9,
        choices={"gradient_checkpointing": False, "unpack_base": True},
        time=Time(None, "no earlier run"),
    )
    text = "\n".join(found.lines())
    for part in (
        "80 train",
        "2 to train on are too long",
        "30",
        "4,000",
        "1.61 GB",
        "4.00 GB are free",
        "unpack base on",
    ):
        assert part in text
    assert "not known: no earlier run" in text
    assert "unpacked" not in text
    document = json.loads(json.dumps(found.document()))
    assert document["memory"]["total"] == found.total
    assert document["steps"] == 30
