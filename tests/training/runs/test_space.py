"""What a search may try."""

from pathlib import Path
from typing import Any

import pytest

from training.config import TrainConfig
from training.fitting.recipes import dpo, kto, sft
from training.runs.space import (
    ATTENTION,
    Space,
    applied,
    rung_of,
    space_of,
    start_of,
    suggest,
    trial_config,
)

NAMES = ("q_proj", "v_proj")


def space(config: TrainConfig, *given: str, max_rank: int = 16, rows: int = 400) -> Space:
    """Return the space around a config."""
    return space_of(config, given=frozenset(given), max_rank=max_rank, rows=rows, attention=NAMES)


class Last:
    """A trial that takes the last of everything."""

    def suggest_categorical(self, _name: str, choices: Any) -> Any:
        """Take the last choice."""
        return choices[-1]

    def suggest_float(self, _name: str, _low: float, high: float, *, log: bool) -> float:
        """Take the highest number."""
        assert log
        return high


@pytest.mark.parametrize("config", [sft(), dpo(), kto()])
def test_the_space_holds_the_recipe_and_no_more_than_the_fleet_serves(config: TrainConfig) -> None:
    """What is tried first is the recipe itself, and nothing that is tried can't be served."""
    found = space(config)
    first = start_of(config)
    assert first["rank"] in found.ranks
    assert first["alpha_factor"] in found.alpha_factors
    assert first["batch_size"] in found.batch_sizes
    assert first["epochs"] in found.epochs
    assert first["targets"] in found.targets
    assert found.learning_rate[0] < config.learning_rate < found.learning_rate[1]
    assert max(found.ranks) == 16
    assert applied(config, first) == config


def test_every_choice_makes_valid_settings() -> None:
    """The corner of the space is a config like any other."""
    config = applied(sft(), suggest(Last(), space(sft())), attention=NAMES)
    assert config.target_modules == NAMES
    assert config.rank == 16
    assert config.alpha == 64.0
    assert config.learning_rate == pytest.approx(2.5e-3)


def test_what_the_user_has_said_is_not_searched() -> None:
    """An option that was given is kept in every trial."""
    names = ("rank", "alpha", "learning_rate", "batch_size", "epochs", "target_modules")
    found = space(sft(rank=4, alpha=4.0), *names)
    assert found == Space((4,), (1.0,), (5e-4, 5e-4), (8,), (3.0,), alpha=4.0)


def test_an_alpha_that_was_given_holds_at_every_rank() -> None:
    """It is not the factor to the rank that is kept."""
    config = sft(alpha=32.0)
    found = applied(config, suggest(Last(), space(config, "alpha")), attention=NAMES)
    assert (found.rank, found.alpha) == (16, 32.0)
    assert applied(config, start_of(config)).alpha == 32.0


def test_a_version_that_is_gone_on_from_keeps_its_shape() -> None:
    """Rank, alpha and layers are the parent's."""
    found = space(sft(parent=Path("/p")))
    assert (found.ranks, found.alpha_factors, found.targets) == ((8,), (2.0,), ("all-linear",))
    assert found.alpha == 16.0
    assert len(found.epochs) > 1


def test_batches_fit_the_rows() -> None:
    """Forty rows are not trained on in batches of thirty-two."""
    assert space(sft(), rows=40).batch_sizes == (4, 8)
    assert min(space(kto(), rows=40).batch_sizes) >= 2


def test_layers_are_searched_only_where_they_are_known() -> None:
    """A base model of unknown shape has all linear layers."""
    found = space_of(sft(), given=frozenset(), max_rank=8, rows=100)
    assert found.targets == ("all-linear",)
    assert ATTENTION in space(sft()).targets


def test_trials_are_compared_after_the_same_rows() -> None:
    """A trial with larger batches is validated after fewer steps, at the same share of a pass."""
    small, large = trial_config(sft(batch_size=4), 400), trial_config(sft(batch_size=16), 400)
    assert (small.eval_steps, large.eval_steps) == (50, 13)
    assert [rung_of(step, small) for step in (0, 25, 50, 100, 101)] == [None, None, 1, 2, None]
    assert rung_of(13, large) == rung_of(50, small) == 1
