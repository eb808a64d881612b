"""From an order to the settings of training: the recipe that the rows are for, with the order's changes."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from adapters.peft_config import LoraConfig, UnservableAdapter, read_config
from training.config import ALL_LINEAR, TrainConfig
from training.data.rows import Kind
from training.fitting.recipes import RECIPES
from training.fitting.serveable import refuse, refuse_kind
from training.runs.order import Order, config_changes, flag

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


OF_A_PARENT = ("rank", "alpha", "rslora", "target_modules")
"""Settings that a version which is gone on from decides: they are the shape and the scale of its weights."""


def settings(
    order: Order, kind: Kind, *, parent: Path | None = None, linear: Collection[str] = ()
) -> TrainConfig:
    """Return the whole settings of a run, with the shape and scale of `parent` where it goes on from one.

    `linear` are the last names of all linear layers of the base model, where they are known.

    Raises:
        ValueError: an option is out of range, does not fit another, contradicts the parent, or can't be
            served by the fleet.
    """
    changes = config_changes(order)
    if parent is not None:
        known = read_config(parent)
        _refuse_another_shape(changes, known, f"--from {order.from_version or parent}", linear)
        changes |= {name: _of(known)[name] for name in OF_A_PARENT}
    config = RECIPES[recipe_of(order, kind)](**changes, parent=parent)
    if config.full and order.out is None:
        raise ValueError("--full makes a base model, which no registry takes: say with --out where to put it")
    refuse_kind(config.adapter)
    shape_is_known = order.from_version is None or parent is not None
    if order.publish and shape_is_known:
        refuse(config, max_rank=order.max_rank)
        if parent is not None and (rank := read_config(parent).highest_rank) > order.max_rank:
            raise UnservableAdapter(
                f"--from {order.from_version or parent} has layers of rank {rank} (rank_pattern), above the "
                f"{order.max_rank} that the fleet serves; raise engine.max_lora_rank and --max-rank"
            )
    return config


def _of(known: LoraConfig) -> dict[str, Any]:
    targets = known.target_modules
    return {
        "rank": known.rank,
        "alpha": known.alpha,
        "rslora": known.rslora,
        "target_modules": ALL_LINEAR if targets == (ALL_LINEAR,) else targets,
    }


def _refuse_another_shape(
    asked: Mapping[str, Any], known: LoraConfig, parent: str, linear: Collection[str]
) -> None:
    theirs = _of(known)
    for name in OF_A_PARENT:
        if name not in asked or _alike(asked[name], theirs[name], linear):
            continue
        said, has = asked[name], theirs[name]
        if isinstance(said, bool):
            option, is_ = flag(name, value=said), f"trained {'with' if has else 'without'} rsLoRA"
        else:
            option, is_ = f"{flag(name)} {_word(said)}", f"trained with {_word(has)}"
        raise ValueError(
            f"{option} contradicts {parent}, which was {is_}: its weights are gone on with, and keep their "
            f"shape and scale; leave the option out"
        )


def _alike(asked: Any, theirs: Any, linear: Collection[str]) -> bool:
    """Whether an option says what the version has; `linear` are what "all-linear" stands for."""
    if asked == ALL_LINEAR and isinstance(theirs, tuple):
        return {name.rpartition(".")[2] for name in theirs} >= set(linear)
    if isinstance(asked, tuple) and isinstance(theirs, tuple):
        return set(asked) == set(theirs)
    return bool(asked == theirs)


def _word(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return ",".join(value) if isinstance(value, tuple) else str(value)


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
