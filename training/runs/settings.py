"""From an order to the settings of training: the recipe that the rows are for, with the order's changes."""

from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from adapters.peft_config import read_config
from training.config import TrainConfig
from training.data.rows import Kind
from training.fitting.recipes import RECIPES
from training.fitting.serveable import FleetLimits, refuse, refuse_kind
from training.runs.order import Order, config_changes

RECIPE_OF: Mapping[Kind, str] = {
    "examples": "sft",
    "rated": "kto",
    "preferences": "dpo",
    "texts": "domain",
}


def kind_wanted(recipe: str | None) -> Kind | None:
    """Return the kind of rows that a recipe trains on; None without one.

    Raises:
        ValueError: there is no such recipe.
    """
    if recipe is None:
        return None
    for kind, name in RECIPE_OF.items():
        if name == recipe:
            return kind
    raise ValueError(f"--recipe {recipe} is not known; there are {', '.join(RECIPES)}")


def recipe_of(order: Order, kind: Kind) -> str:
    """Return the recipe to train by: the order's, or the one that such rows are for.

    Raises:
        ValueError: the order's is for rows of another kind.
    """
    if order.recipe is None:
        return RECIPE_OF[kind]
    wanted = kind_wanted(order.recipe)
    if wanted != kind:
        raise ValueError(
            f"--recipe {order.recipe} trains on {wanted}, and these rows are {kind}; "
            f"leave it out or take --recipe {RECIPE_OF[kind]}"
        )
    return order.recipe


def settings(order: Order, kind: Kind, *, parent: Path | None = None) -> TrainConfig:
    """Return the whole settings of a run.

    Raises:
        ValueError: an option is out of range, does not fit another, or can't be served by the fleet.
    """
    changes = config_changes(order)
    if parent is not None:
        known = read_config(parent)
        changes = {"rank": known.rank, "alpha": known.alpha, **changes}
    config = RECIPES[recipe_of(order, kind)](**changes, parent=parent)
    if config.full and order.out is None:
        raise ValueError("--full makes a base model, which no registry takes: say with --out where to put it")
    refuse_kind(config.adapter)
    if order.publish:
        refuse(config, FleetLimits(max_rank=order.max_rank))
    return config


def config_document(config: TrainConfig) -> dict[str, Any]:
    """Return settings as JSON values from which `config_of` makes them again."""
    found = asdict(config)
    found["parent"] = None if config.parent is None else str(config.parent)
    if not isinstance(config.target_modules, str):
        found["target_modules"] = list(config.target_modules)
    return found


def config_of(document: Mapping[str, Any]) -> TrainConfig:
    """Return the settings that `config_document` wrote down."""
    known = {field.name for field in fields(TrainConfig)}
    values = {name: value for name, value in document.items() if name in known}
    if isinstance(values.get("target_modules"), list):
        values["target_modules"] = tuple(values["target_modules"])
    if values.get("parent") is not None:
        values["parent"] = Path(values["parent"])
    return TrainConfig(**values)
