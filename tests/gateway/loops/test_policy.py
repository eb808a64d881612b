"""The loop's policy: what it refuses, and that its defaults are safe."""

from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.core.loop import TRAIN_OPTIONS, LoopPolicy, read_policy
from gateway.core.routes import RouteSpec


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"triggers": ["weather"]}, "triggers"),
        ({"triggers": ["drift", "drift"]}, "more than once"),
        ({"triggers": ["schedule"]}, "go together"),
        ({"schedule_h": 24}, "go together"),
        ({"cooldown_h": -1}, "cooldown_h"),
        ({"cooldown_h": float("nan")}, "cooldown_h"),
        ({"runs_per_week": 0}, "runs_per_week"),
        ({"replay_share": 1.0}, "replay_share"),
        ({"min_new_examples": 8, "max_examples": 10, "replay_share": 0.3}, "leaves 7 for new rows"),
        ({"margin": 0}, "margin"),
        ({"canary": {"steps": []}}, "must grow"),
        ({"canary": {"steps": [0.5, 0.1]}}, "must grow"),
        ({"canary": {"steps": [1.0]}}, "below 1"),
        ({"canary": {"candidate": "support@2"}}, "candidate"),
        ({"train": {"out": "/etc"}}, "can't set out"),
        ({"train": {"runs": "elsewhere"}}, "can't set runs"),
        ({"train": {"instruction": "--out"}}, "train"),
        ({"train": {"instruction": "a\nb"}}, "train"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(given: dict[str, Any], says: str) -> None:
    """The message names what is wrong; nothing of a policy reaches a file, an address or another option."""
    with pytest.raises(ValidationError, match=says):
        LoopPolicy.model_validate(given)


def test_the_defaults_ask_a_person_where_nothing_can_be_trusted() -> None:
    """By default a version of untrusted rows needs approval, and no run begins within a day of another."""
    policy = LoopPolicy()
    assert (policy.approve, policy.min_trusted_held_out > 0, policy.cooldown_h) == ("untrusted", True, 24)


def test_a_policy_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    """The file that steps read holds the whole policy, whole numbers and fractions apart."""
    train = {"epochs": 2, "learning_rate": 5e-4, "packing": True, "schedule": "cosine"}
    policy = LoopPolicy.model_validate({"train": train, "triggers": ["schedule"], "schedule_h": 12})
    path = tmp_path / "policy.json"
    path.write_text(policy.model_dump_json())
    assert read_policy(path) == policy
    assert [type(value) for value in read_policy(path).train.values()] == [int, float, bool, str]


def test_a_route_without_a_loop_has_none() -> None:
    """A spec from before there were loops is the same spec."""
    assert RouteSpec.model_validate({"arms": [{"adapter": "base", "share": 1}]}).loop is None


def test_options_are_those_of_training() -> None:
    """Each option that a policy may set is one of `turnout train`."""
    from training.runs.order import PLACES, Order

    assert {field.name for field in fields(Order)} >= TRAIN_OPTIONS
    assert not TRAIN_OPTIONS & PLACES
