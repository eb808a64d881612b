"""What a search may try, and the settings that a choice of it makes. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from training.config import ALL_LINEAR, TrainConfig

RANKS = (2, 4, 8, 16, 32, 64)
ALPHA_FACTORS = (1.0, 2.0, 4.0)
BATCH_SIZES = (4, 8, 16, 32)
RATE_SPAN = 5.0
"""Learning rates are tried from a fifth of the recipe's to five times it."""

ATTENTION = "attention"
RUNGS_A_PASS = 2
"""Validations in a pass over the rows: what trials of every batch size are compared at."""


class Suggests(Protocol):
    """The part of an Optuna trial that draws values."""

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """Draw one of several values."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        """Draw a number."""


@dataclass(frozen=True, slots=True)
class Space:
    """The values of each setting. Those that the user has given have one value alone.

    `alpha`, where it was given, stands in place of the factors that make it from the rank.
    """

    ranks: tuple[int, ...]
    alpha_factors: tuple[float, ...]
    learning_rate: tuple[float, float]
    batch_sizes: tuple[int, ...]
    epochs: tuple[float, ...]
    targets: tuple[str, ...] = (ALL_LINEAR,)
    alpha: float | None = None


def space_of(
    config: TrainConfig,
    *,
    given: frozenset[str],
    max_rank: int,
    rows: int,
    attention: Sequence[str] = (),
) -> Space:
    """Return what to try around `config`. `given` are settings that the user has fixed.

    `attention` are the base model's attention layers, the alternative to all linear ones; a version that is
    gone on from keeps its shape.
    """
    fixed = given | ({"rank", "alpha", "target_modules"} if config.parent is not None else frozenset())
    ranks = tuple(rank for rank in RANKS if rank <= max_rank)
    least = 2 if config.method == "kto" else 1
    batches = tuple(
        size
        for size in BATCH_SIZES
        if least <= size <= max(rows // 4, config.batch_size) and size % config.accumulation == 0
    )
    passes = tuple(sorted({_half(config.epochs / 2), config.epochs, _half(config.epochs * 1.5)}))
    rate = config.learning_rate
    return Space(
        ranks=(config.rank,) if "rank" in fixed else _with(ranks, config.rank),
        alpha_factors=(
            (config.alpha / config.rank,)
            if "alpha" in fixed
            else _with(ALPHA_FACTORS, config.alpha / config.rank)
        ),
        learning_rate=(rate, rate) if "learning_rate" in fixed else (rate / RATE_SPAN, rate * RATE_SPAN),
        batch_sizes=(config.batch_size,) if "batch_size" in fixed else _with(batches, config.batch_size),
        epochs=(config.epochs,) if "epochs" in fixed else passes,
        alpha=config.alpha if "alpha" in fixed else None,
        targets=((ALL_LINEAR,) if "target_modules" in fixed or not attention else (ALL_LINEAR, ATTENTION)),
    )


def suggest(trial: Suggests, space: Space) -> dict[str, Any]:
    """Draw one choice of the space."""
    low, high = space.learning_rate
    return {
        "rank": trial.suggest_categorical("rank", space.ranks),
        **(
            {"alpha_factor": trial.suggest_categorical("alpha_factor", space.alpha_factors)}
            if space.alpha is None
            else {"alpha": trial.suggest_categorical("alpha", (space.alpha,))}
        ),
        "learning_rate": trial.suggest_float("learning_rate", low, high, log=True),
        "batch_size": trial.suggest_categorical("batch_size", space.batch_sizes),
        "epochs": trial.suggest_categorical("epochs", space.epochs),
        "targets": trial.suggest_categorical("targets", space.targets),
    }


def start_of(config: TrainConfig) -> dict[str, Any]:
    """Return the choice that is tried first: the settings as they are, so that a search never does worse."""
    return {
        "rank": config.rank,
        "alpha_factor": config.alpha / config.rank,
        "learning_rate": config.learning_rate,
        "batch_size": config.batch_size,
        "epochs": config.epochs,
        "targets": ALL_LINEAR,
    }


def applied(config: TrainConfig, choice: Mapping[str, Any], *, attention: Sequence[str] = ()) -> TrainConfig:
    """Return the settings with a choice of the space."""
    changed = replace(
        config,
        rank=int(choice["rank"]),
        alpha=alpha_of(choice),
        learning_rate=float(choice["learning_rate"]),
        batch_size=int(choice["batch_size"]),
        epochs=float(choice["epochs"]),
    )
    if choice["targets"] == ATTENTION:
        return replace(changed, target_modules=tuple(attention))
    return changed


def alpha_of(choice: Mapping[str, Any]) -> float:
    """Return the alpha of a choice."""
    return float(choice["alpha"] if "alpha" in choice else choice["rank"] * choice["alpha_factor"])


def trial_config(config: TrainConfig, rows: int) -> TrainConfig:
    """Return the settings of a trial: validated at the same shares of a pass whatever its batch size."""
    return replace(config, eval_steps=max(1, math.ceil(rows / RUNGS_A_PASS / config.batch_size)))


def rung_of(step: int, config: TrainConfig) -> int | None:
    """Return the number of a trial's validation, or None for one that is between those that are compared."""
    return step // config.eval_steps if step and step % config.eval_steps == 0 else None


def _half(value: float) -> float:
    """Return a number of passes to the next half, at least one half."""
    return max(0.5, math.floor(value * 2 + 0.5) / 2)


def _with(values: tuple[Any, ...], own: Any) -> tuple[Any, ...]:
    return tuple(sorted({*values, own}))
