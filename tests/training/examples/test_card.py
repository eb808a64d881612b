"""The card of an example adapter, and its lineage."""

import pytest

from adapters.manifest import BaseIdentity, Difference, Evaluation, Lineage, Manifest, Score
from training.data.rows import Example
from training.examples.card import card
from training.examples.recipes import RECIPES
from training.publishing.lineage import code_version, fingerprint


def manifest(*, evaluation: Evaluation | None) -> Manifest:
    """Return a manifest as training writes it."""
    return Manifest(
        name="sentiment",
        digest="sha256:" + "0" * 64,
        base=BaseIdentity(name="small"),
        rank=8,
        alpha=16,
        target_modules=("q_proj",),
        dtype="bfloat16",
        size_bytes=4_900_000,
        source="training",
        created_at=0.0,
        evaluation=evaluation,
        lineage=Lineage(
            recipe="r",
            data_source="a package",
            data_terms="its terms",
            data_fingerprint="sha256:" + "1" * 64,
            rows={"train": 10, "validation": 2, "test": 5},
            config={"epochs": 1.0, "batch_size": 8, "learning_rate": 5e-4, "seed": 7},
            command="python -m training.examples sentiment",
            code_version="turnout 0",
            seconds=120.0,
        ),
    )


def test_the_card_has_the_figures_and_says_how_to_call_and_make_it() -> None:
    """A reader finds the prompt, every figure with its interval, the terms, the limits and the command."""
    judged = Evaluation(
        rows=5,
        scores=(
            Score(system="adapter", metric="accuracy", value=0.8, low=0.7, high=0.9, rows=5),
            Score(system="base-constrained", metric="accuracy", value=0.6, low=0.5, high=0.7, rows=5),
            Score(system="base-4-shot", metric="accuracy", value=0.5, low=0.4, high=0.6, rows=5),
            Score(system="tf-idf", metric="accuracy", value=0.7, low=0.6, high=0.8, rows=5),
        ),
        differences=(
            Difference(against="base-constrained", metric="accuracy", value=0.2, low=0.1, high=0.3, rows=5),
        ),
    )
    text = card(RECIPES["sentiment"], manifest(evaluation=judged))
    for part in (
        RECIPES["sentiment"].instruction,
        "| this adapter, free-running | accuracy | 0.800 [0.700, 0.900] |  |",
        "0.600 [0.500, 0.700] | +0.200 [+0.100, +0.300] |",
        "| base, 4 worked examples in the prompt | accuracy | 0.500",
        "| TF-IDF and logistic regression on the same training rows | accuracy | 0.700",
        "its terms",
        "10 train, 2 validation, 5 test",
        "2 minutes",
        "python -m training.examples sentiment",
        RECIPES["sentiment"].limits,
    ):
        assert part in text


def test_a_card_is_not_written_without_figures() -> None:
    """An adapter that was not judged gets no card that looks as if it was."""
    with pytest.raises(ValueError, match="no lineage or evaluation"):
        card(RECIPES["sentiment"], manifest(evaluation=None))


def test_the_fingerprint_is_of_the_rows_and_not_of_their_order() -> None:
    """Sorting a file changes nothing; changing an answer does."""
    rows = [Example(({"role": "user", "content": text},), "x", number) for number, text in enumerate("abc")]
    changed = [*rows[:2], Example(rows[2].messages, "y")]
    assert fingerprint(rows) == fingerprint(rows[::-1])
    assert fingerprint(rows) != fingerprint(changed)


def test_the_code_version_names_release_and_sources() -> None:
    """Lineage can tell two states of the training code apart."""
    assert "training sha256:" in code_version()
