"""The settings of a run and the recipes: values are checked where they are made, and all are told."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from training.config import METHODS, TrainConfig
from training.fitting.recipes import RECIPES

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"epochs": 0}, "--epochs"),
    ({"learning_rate": 1.0}, "--learning-rate"),
    ({"rank": 0}, "--rank"),
    ({"alpha": 0}, "--alpha"),
    ({"dropout": 1.0}, "--dropout"),
    ({"batch_size": 0}, "--batch-size"),
    ({"warmup_share": 1.0}, "--warmup-share"),
    ({"max_tokens": 7}, "--max-tokens"),
    ({"seed": -1}, "--seed"),
    ({"dtype": "int8"}, "--dtype is int8, and must be one of bfloat16, float16, float32"),
    ({"method": "ppo"}, "--method is ppo, and must be one of sft, kto, dpo, domain"),
    ({"quantization": "int8"}, "--quantization"),
    ({"schedule": "step"}, "--schedule"),
    ({"adapter": "loha"}, "--adapter"),
    ({"weight_decay": 1.0}, "--weight-decay"),
    ({"max_grad_norm": 0}, "--max-grad-norm"),
    ({"accumulation": 3}, "--accumulation is 3, and must be a divisor of the batch size 8"),
    ({"gradient_checkpointing": "often"}, "--gradient-checkpointing"),
    ({"unpack_base": "often"}, "--unpack-base"),
    ({"eval_steps": -1}, "--eval-steps"),
    ({"patience": -1}, "--patience"),
    ({"beta": 0}, "--beta"),
    ({"target_modules": ()}, "--target-modules"),
    ({"method": "kto", "accumulation": 8}, "two rows or more in a pass"),
    ({"full": True}, "add --quantization none"),
    ({"full": True, "quantization": "none", "parent": Path("x")}, "--from"),
    ({"full": True, "quantization": "none", "method": "dpo"}, "second copy"),
]


@pytest.mark.parametrize(("values", "said"), REFUSED)
def test_a_value_out_of_range_is_refused_by_its_option(values: dict[str, Any], said: str) -> None:
    """The message names the option, so that its user knows what to change."""
    with pytest.raises(ValueError, match=said):
        TrainConfig(**values)


def test_every_setting_is_told_in_the_document() -> None:
    """Lineage has all that was set, as JSON, and no folder of this machine."""
    document = TrainConfig(target_modules=("q_proj",), parent=Path("/somewhere/ab12")).document()
    assert {each.name for each in fields(TrainConfig)} <= set(document)
    assert json.loads(json.dumps(document)) == document
    assert document["parent"] == "ab12"
    assert document["loss_on"] == "completion"


def test_there_is_a_recipe_for_every_method() -> None:
    """Each gives whole settings of its own method, stops early, and takes other values by name."""
    assert set(RECIPES) == set(METHODS)
    for name, recipe in RECIPES.items():
        config = recipe()
        assert config.method == name
        assert config.patience > 0
        assert config.dropout == 0
        assert config.target_modules == "all-linear"
        assert recipe(learning_rate=0.001, rank=4).learning_rate == 0.001
    with pytest.raises(ValueError, match="--rank"):
        RECIPES["sft"](rank=0)
