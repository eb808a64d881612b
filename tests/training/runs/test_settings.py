"""From an order to the settings of training."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.inspect import UnservableAdapter
from tests.adapters.folders import make_adapter
from training.data.rows import Kind
from training.fitting.recipes import RECIPES
from training.runs.order import Order
from training.runs.settings import config_document, config_of, kind_wanted, recipe_of, settings


@pytest.mark.parametrize(
    ("kind", "recipe"), [("examples", "sft"), ("rated", "kto"), ("preferences", "dpo"), ("texts", "domain")]
)
def test_the_recipe_follows_from_the_rows(kind: Kind, recipe: str) -> None:
    """Nobody has to say what the data says; saying something else is an error that names the right one."""
    assert recipe_of(Order(), kind) == recipe
    assert recipe_of(Order(recipe=recipe), kind) == recipe
    assert kind_wanted(recipe) == kind
    assert settings(Order(), kind) == RECIPES[recipe]()
    other = "dpo" if recipe == "sft" else "sft"
    with pytest.raises(ValueError, match=f"take --recipe {recipe}"):
        recipe_of(Order(recipe=other), kind)


def test_an_unknown_recipe_names_those_there_are() -> None:
    """A slip of the keyboard is no surprise at the end of an hour."""
    with pytest.raises(ValueError, match="there are sft, kto, dpo, domain"):
        kind_wanted("stf")


def test_options_change_the_recipe_and_nothing_else() -> None:
    """What was not said stays the recipe's."""
    config = settings(Order(rank=4, epochs=1.0, packing=False), "rated")
    assert (config.method, config.rank, config.epochs, config.packing) == ("kto", 4, 1.0, False)
    assert config.learning_rate == RECIPES["kto"]().learning_rate


@pytest.mark.parametrize(
    ("order", "said"),
    [
        (Order(rank=32), "rank 32 is above the 16"),
        (Order(adapter="dora"), "DoRA"),
        (Order(learning_rate=5.0), "--learning-rate is 5"),
        (Order(full=True, quantization="none"), "say with --out"),
    ],
)
def test_what_can_not_be_served_is_refused_before_anything_is_loaded(order: Order, said: str) -> None:
    """The fleet's limits hold for what is published."""
    with pytest.raises(ValueError, match=said):
        settings(order, "examples")


@pytest.mark.parametrize("kind", ["dora", "pissa"])
def test_a_kind_that_is_not_trained_here_is_refused_for_a_folder_too(kind: str) -> None:
    """Otherwise plain LoRA would be trained, and its lineage would say something else."""
    with pytest.raises(UnservableAdapter, match=f"--adapter {kind}"):
        settings(Order(adapter=kind, publish=False), "examples")


def test_the_fleets_limits_do_not_hold_for_what_is_not_published() -> None:
    """An adapter for elsewhere may have any rank."""
    assert settings(Order(rank=32, publish=False), "examples").rank == 32
    with pytest.raises(UnservableAdapter):
        settings(Order(rank=32, max_rank=16), "examples")
    assert settings(Order(rank=32, max_rank=64), "examples").rank == 32


@pytest.mark.parametrize("rslora", [True, False])
@pytest.mark.parametrize("kind", ["examples", "texts"])
def test_going_on_from_a_version_keeps_its_shape_and_scale(tmp_path: Path, kind: Kind, rslora: bool) -> None:
    """What is recorded is what the version has, whatever the recipe has; nobody has to look it up."""
    parent = make_adapter(tmp_path / "p", rank=4, lora_alpha=12, use_rslora=rslora, lora_dropout=0.3)
    config = settings(Order(), kind, parent=parent)
    assert (config.rank, config.alpha, config.rslora, config.parent) == (4, 12, rslora, parent)
    assert config.target_modules == ("q_proj", "v_proj")
    assert config.document()["target_modules"] == ["q_proj", "v_proj"]
    # Dropout is of a training, not of a version.
    assert config.dropout == 0
    assert settings(Order(dropout=0.1), kind, parent=parent).dropout == 0.1


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"rank": 8}, "--rank 8 contradicts --from fruit@3, which was trained with 4"),
        ({"alpha": 16.0}, "--alpha 16 contradicts --from fruit@3, which was trained with 12"),
        ({"rslora": False}, "--no-rslora contradicts --from fruit@3, which was trained with rsLoRA"),
        ({"target_modules": "q_proj"}, "--target-modules q_proj contradicts .* trained with q_proj,v_proj"),
        ({"target_modules": "all-linear"}, "--target-modules all-linear contradicts"),
    ],
)
def test_an_option_that_contradicts_the_version_gone_on_from_is_refused(
    tmp_path: Path, asked: dict[str, Any], said: str
) -> None:
    """It could not be followed; the message names the option, what the version has, and what to do."""
    parent = make_adapter(tmp_path / "p", rank=4, lora_alpha=12, use_rslora=True)
    with pytest.raises(ValueError, match=f"{said}.*leave the option out"):
        settings(
            Order(from_version="fruit@3", **asked), "examples", parent=parent, linear=["q_proj", "o_proj"]
        )


@pytest.mark.parametrize(
    "asked",
    [
        {"rank": 4, "alpha": 12.0, "rslora": True, "target_modules": "v_proj, q_proj"},
        {"target_modules": "all-linear"},
    ],
)
def test_an_option_that_says_what_the_version_has_is_taken(tmp_path: Path, asked: dict[str, Any]) -> None:
    """A policy that always sets them can train on from its own versions."""
    parent = make_adapter(tmp_path / "p", rank=4, lora_alpha=12, use_rslora=True)
    config = settings(Order(**asked), "examples", parent=parent, linear=["q_proj", "v_proj"])
    assert config == settings(Order(), "examples", parent=parent)
    everything = make_adapter(tmp_path / "all", rank=4, target_modules="all-linear")
    assert settings(Order(), "examples", parent=everything).target_modules == "all-linear"


def test_a_recipes_rank_is_not_that_of_a_version_that_is_gone_on_from(tmp_path: Path) -> None:
    """Before the version is looked up, no recipe's rank is refused; afterwards the version's counts."""
    order = Order(from_version="fruit@3", max_rank=8)
    assert settings(order, "texts").rank == 16
    assert settings(order, "texts", parent=make_adapter(tmp_path / "p", rank=4)).rank == 4
    with pytest.raises(UnservableAdapter, match="--rank 12 is above the 8"):
        settings(order, "texts", parent=make_adapter(tmp_path / "q", rank=12))
    higher = make_adapter(tmp_path / "r", rank=4, rank_pattern={"q_proj": 12})
    with pytest.raises(UnservableAdapter, match=r"--from fruit@3 has layers of rank 12 .* above the 8"):
        settings(order, "texts", parent=higher)
    assert settings(replace(order, max_rank=12), "texts", parent=higher).rank == 4


@pytest.mark.parametrize("recipe", RECIPES)
def test_settings_survive_their_document(recipe: str) -> None:
    """A resumed run has the very settings that it began with."""
    config = RECIPES[recipe](target_modules=("q_proj", "v_proj"), parent=Path("/p"))
    assert config_of(config_document(config)) == config
