"""What can't be served is refused before training, with the reason and what to use instead."""

from pathlib import Path

import pytest

from training.config import TrainConfig
from training.fitting.recipes import RECIPES
from training.fitting.serveable import refuse

REFUSED: list[tuple[TrainConfig, str]] = [
    (TrainConfig(adapter="dora"), "vLLM does not serve DoRA.*use --adapter lora"),
    (TrainConfig(adapter="pissa"), "4-bit weights can't follow.*use --adapter lora"),
    (TrainConfig(adapter="prompt-tuning"), "put the prompt into the request"),
    (TrainConfig(adapter="prefix-tuning"), "put the prefix into the prompt"),
    (TrainConfig(adapter="p-tuning"), "p-tuning"),
    (TrainConfig(adapter="ia3"), "rank 1"),
    (TrainConfig(adapter="adalora"), "--search"),
    (TrainConfig(rank=32), "--rank 32 is above the 16.*raise engine.max_lora_rank"),
    (TrainConfig(target_modules=("q_proj", "lm_head")), "'lm_head'.*all-linear"),
    (TrainConfig(target_modules=("model.embed_tokens",)), "embed_tokens"),
]


@pytest.mark.parametrize(("config", "said"), REFUSED)
def test_what_can_not_be_served_is_refused(config: TrainConfig, said: str) -> None:
    """The reason is given, and what to use instead."""
    with pytest.raises(ValueError, match=said):
        refuse(config, max_rank=16)


@pytest.mark.parametrize(
    "config",
    [
        *(recipe() for recipe in RECIPES.values()),
        TrainConfig(rank=16, rslora=True),
        TrainConfig(full=True, quantization="none", rank=512),
        TrainConfig(parent=Path("p"), target_modules=("lm_head",)),
    ],
)
def test_what_can_be_served_passes(config: TrainConfig) -> None:
    """Recipes are within a fleet's defaults, whole base models have no rank, parents were taken before."""
    refuse(config, max_rank=16)
