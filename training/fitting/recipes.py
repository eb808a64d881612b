"""One set of sound settings for each method of training, as functions that return a whole config.

Where each default comes from stands in docs/training.md. Every field can be given another value by name.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from training.config import TrainConfig


def sft(**changes: Any) -> TrainConfig:
    """Return the settings for rows with the answer that should be given; the loss is on the answers alone."""
    return replace(TrainConfig(method="sft", patience=3), **changes)


def dpo(**changes: Any) -> TrainConfig:
    """Return the settings for pairs of a better and a worse answer (Rafailov and others, 2023).

    The reference is the base model, or the version that is gone on from. The learning rate is ten times the
    paper's for full fine-tuning, as for every LoRA here, and one pass is enough: preferences overfit soon.
    """
    return replace(
        TrainConfig(
            method="dpo",
            epochs=1.0,
            learning_rate=5e-5,
            beta=0.1,
            warmup_share=0.1,
            packing=False,
            patience=3,
        ),
        **changes,
    )


def kto(**changes: Any) -> TrainConfig:
    """Return the settings for answers that were liked or not (Ethayarajh and others, 2024).

    The loss is between 0 and 1 and flat far from the reference, so it bears a higher rate than `dpo`.
    """
    return replace(
        TrainConfig(
            method="kto",
            epochs=1.0,
            learning_rate=1e-4,
            beta=0.1,
            warmup_share=0.1,
            packing=False,
            patience=3,
        ),
        **changes,
    )


def domain(**changes: Any) -> TrainConfig:
    """Return the settings for continued pre-training on texts as they are; the loss is on every token.

    More is learned here than the form of an answer, so the rank is the highest that a fleet serves by
    default, and its scale does not shrink with it (rsLoRA, Kalajdzievski 2023): 8 / √16 = 2, as in `sft`.
    """
    return replace(
        TrainConfig(
            method="domain", epochs=1.0, learning_rate=2e-4, rank=16, alpha=8.0, rslora=True, patience=3
        ),
        **changes,
    )


RECIPES: dict[str, Callable[..., TrainConfig]] = {"sft": sft, "kto": kto, "dpo": dpo, "domain": domain}
