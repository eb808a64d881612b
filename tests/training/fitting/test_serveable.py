"""What can't be served is refused before training, with the reason and what to use instead."""

from typing import Any

import pytest

from training.config import TrainConfig
from training.fitting.recipes import RECIPES
from training.fitting.serveable import FleetLimits, refuse

LORA = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj", "v_proj"]}
FLEET = FleetLimits(max_rank=16)

REFUSED: list[tuple[TrainConfig | dict[str, Any], FleetLimits, str]] = [
    (TrainConfig(adapter="dora"), FLEET, "vLLM does not serve DoRA.*use --adapter lora"),
    (TrainConfig(adapter="pissa"), FLEET, "4-bit weights can't follow.*use --adapter lora"),
    (TrainConfig(adapter="prompt-tuning"), FLEET, "put the prompt into the request"),
    (TrainConfig(adapter="prefix-tuning"), FLEET, "put the prefix into the prompt"),
    (TrainConfig(adapter="p-tuning"), FLEET, "p-tuning"),
    (TrainConfig(adapter="ia3"), FLEET, "rank 1"),
    (TrainConfig(adapter="adalora"), FLEET, "--search"),
    (TrainConfig(rank=32), FLEET, "--rank 32 is above the 16.*raise engine.max_lora_rank"),
    (TrainConfig(target_modules=("q_proj", "lm_head")), FLEET, "'lm_head'.*all-linear"),
    (TrainConfig(target_modules=("model.embed_tokens",)), FLEET, "embed_tokens"),
    (
        TrainConfig(target_modules=("gate_proj",)),
        FleetLimits(targets=frozenset({"q_proj", "v_proj"})),
        "'gate_proj' is not served.*q_proj, v_proj",
    ),
    ({**LORA, "use_dora": True}, FLEET, "use_dora=false"),
    ({**LORA, "peft_type": "PROMPT_TUNING"}, FLEET, "prompt tuning is not served"),
    ({**LORA, "init_lora_weights": "pissa"}, FLEET, "pissa"),
    ({**LORA, "modules_to_save": ["lm_head"]}, FLEET, "modules_to_save"),
    ({**LORA, "r": 64}, FLEET, "the rank 64 is above the 16"),
    ({**LORA, "rank_pattern": {"q_proj": 32}}, FLEET, "the rank 32"),
]


@pytest.mark.parametrize(("subject", "fleet", "said"), REFUSED)
def test_what_can_not_be_served_is_refused(
    subject: TrainConfig | dict[str, Any], fleet: FleetLimits, said: str
) -> None:
    """The reason is given, and what to use instead."""
    with pytest.raises(ValueError, match=said):
        refuse(subject, fleet)


@pytest.mark.parametrize(
    "subject",
    [
        *(recipe() for recipe in RECIPES.values()),
        TrainConfig(rank=16, rslora=True),
        TrainConfig(full=True, quantization="none", rank=512),
        LORA,
        {**LORA, "target_modules": "all-linear", "use_rslora": True},
    ],
)
def test_what_can_be_served_passes(subject: TrainConfig | dict[str, Any]) -> None:
    """Every recipe is within a fleet's defaults, and a whole base model has no rank."""
    refuse(subject, FLEET)
