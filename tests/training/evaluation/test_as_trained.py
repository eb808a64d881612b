"""Rows are told from those that a version was trained on, as its lineage says they were cleaned and split."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from adapters.manifest import Lineage
from tests.training.evaluation.test_sources import file, keys, pairs, taken, trained_on
from training.data import personal
from training.data.prepare import Prepared, prepare
from training.data.rows import DataError, Row
from training.data.splits import Splits
from training.evaluation.systems import System
from training.runs.order import Order, command_line
from training.runs.sources import reading_of, split_of

pytestmark = pytest.mark.slow

NAMES = ("Anna", "Bert", "Cora", "Dora", "Emil", "Fritz")
MODEL = "names_of_the_tests"


def by_name(text: str) -> personal.Found:
    """Mask the names of the tests, as a spaCy model would."""
    masked, count = re.subn("|".join(NAMES), "[PERSON]", text)
    return personal.Found(masked, Counter({"PERSON": count} if count else {}))


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The models that are there; without one, personal data is found by the gateway's own patterns."""
    there = {MODEL}

    def finder(model: str | None = None) -> personal.Finder:
        if model is not None and model not in there:
            raise personal.PersonalUnavailable(f"{model} is no spaCy model that is installed")
        return personal.by_form if model is None else by_name

    monkeypatch.setattr(personal, "finder", finder)
    return there


def trained(order: Order) -> tuple[System, Splits[Row]]:
    """Return what an order trains on, and the system that comes of it."""
    found: Prepared = prepare(str(order.source), replace(reading_of(order), embeddings=False))
    assert found.splits is not None
    system = trained_on(str(order.source), counts=found.splits.counts())
    lineage = {
        "config": {"split": split_of(order)},
        "command": command_line(order),
        "data_fingerprint": found.report.fingerprint,
        "read_fingerprint": found.report.read_fingerprint,
    }
    return changed(system, **lineage), found.splits


def changed(system: System, **values: Any) -> System:
    """Return the system with other values in its lineage."""
    assert system.lineage is not None
    assert system.manifest is not None
    lineage = Lineage.model_validate({**system.lineage.model_dump(), **values})
    return replace(system, manifest=system.manifest.model_copy(update={"lineage": lineage}))


def before(system: System, *gone: str) -> System:
    """Return the system as an older release left it: without a fingerprint of what was read."""
    assert system.lineage is not None
    split = {name: value for name, value in system.lineage.config["split"].items() if name not in gone}
    return changed(system, read_fingerprint=None, config={"split": split})


def lines(rows: Sequence[Row]) -> set[int]:
    """Return the lines of rows, whatever was masked in them."""
    return {row.line for row in rows}


def named(count: int) -> list[dict[str, Any]]:
    """Return rows with a name in each prompt."""
    return [
        {**row, "prompt": f"{NAMES[number % 6]} says {row['prompt']}"}
        for number, row in enumerate(pairs(count))
    ]


@pytest.mark.parametrize(
    "more",
    [
        [],
        pairs(1),
        [{"prompt": "please write to anna@example.org about the order", "completion": "a"}],
        [{"prompt": "a question ", "completion": "a\u200b"}],
    ],
)
@pytest.mark.parametrize("older", [False, True])
def test_the_rows_of_training_are_known_whatever_the_check_did(
    tmp_path: Path, more: list[dict[str, Any]], *, older: bool
) -> None:
    """Copies, personal data and odd characters that it took out make them no others."""
    source = file(tmp_path, [*pairs(150), *more])
    system, _ = trained(Order(source=source))
    if older:
        system = before(system)
    with pytest.raises(ValueError, match="is the data that one@1 was trained from"):
        taken(source, system)
    assert len(taken(source, system, seen=True).rows) == 150 + (more not in ([], pairs(1)))
    others = file(tmp_path, pairs(20, 500), "others.jsonl")
    assert taken(others, system).notes == ()


def test_rows_with_weights_are_known_without_being_told_of_them(tmp_path: Path) -> None:
    """By what was read, and held-out rows are found again as they were."""
    source = file(tmp_path, [{**row, "w": 1 + n % 3} for n, row in enumerate(pairs(150))])
    system, splits = trained(Order(source=source, weight_column="w"))
    with pytest.raises(ValueError, match="is the data"):
        taken(source, system)
    found = taken(source, system, held_out=True)
    assert (keys(found.rows), found.notes) == (keys(splits.test), ())


@pytest.mark.parametrize("older", [False, True])
def test_held_out_rows_are_told_by_their_masked_prompts(
    tmp_path: Path, installed: set[str], *, older: bool
) -> None:
    """With the model that found names in training; older releases named it in the command alone."""
    assert MODEL in installed
    source = file(tmp_path, named(250))
    system, splits = trained(Order(source=source, ner_model=MODEL))
    if older:
        system = before(system, "ner_model")
    found = taken(source, system, held_out=True)
    assert lines(found.rows) == lines(splits.test)
    assert found.notes == ()
    grown = taken(file(tmp_path, named(350), "grown.jsonl"), system, held_out=True)
    assert lines(splits.test) <= lines(grown.rows)
    assert not lines(splits.train) & lines(grown.rows)
    assert "no longer" in grown.notes[0]


def test_without_the_model_that_found_names_nothing_is_guessed(tmp_path: Path, installed: set[str]) -> None:
    """Held-out rows can't be told; of other rows nobody can check that they are others."""
    source = file(tmp_path, named(250))
    system, _ = trained(Order(source=source, ner_model=MODEL))
    installed.clear()
    with pytest.raises(ValueError, match=f"was trained with --ner-model {MODEL}, without which nobody"):
        taken(source, system, held_out=True)
    with pytest.raises(ValueError, match="is the data"):
        taken(source, system)
    others = file(tmp_path, pairs(20, 500), "others.jsonl")
    assert taken(others, system).notes == ()
    (note,) = taken(others, before(system)).notes
    assert note.startswith(f"nobody can check that one@1 was not trained from {others}")


def test_a_source_that_is_cleaned_otherwise_than_in_training_is_refused(
    tmp_path: Path, installed: set[str]
) -> None:
    """The same rows would stand in other splits; `--seen` judges by them all the same, and it is said."""
    assert MODEL in installed
    source = file(tmp_path, named(250))
    system, _ = trained(Order(source=source, ner_model=MODEL))
    other = changed(system, config={"split": split_of(Order())}, command="another")
    with pytest.raises(ValueError, match="cleaning it gives other rows here"):
        taken(source, other, held_out=True)
    (note,) = taken(source, other, held_out=True, seen=True).notes
    assert "rows of training may be among those" in note


def test_a_larger_share_than_was_held_out_is_refused(tmp_path: Path) -> None:
    """It takes rows of training, which the bounds of the splits would hide; a smaller one takes none."""
    source = file(tmp_path, pairs(250))
    system, splits = trained(Order(source=source, max_test_rows=10))
    grown = file(tmp_path, pairs(300), "grown.jsonl")
    for path in (source, grown):
        with pytest.raises(ValueError, match=r"--test-share 0\.5 holds rows that one@1 was trained on"):
            taken(path, system, held_out=True, shares={"test": 0.5})
    assert taken(grown, system, held_out=True, shares={"test": 0.5}, seen=True).rows
    less = taken(grown, system, held_out=True, shares={"test": 0.08})
    assert not keys(less.rows) & keys(splits.train)


def test_what_training_held_out_elsewhere_is_left_out_again(tmp_path: Path) -> None:
    """Where that source is still there; otherwise the rows can't be those of training, and it is refused."""
    elsewhere = file(tmp_path, pairs(30), "elsewhere.jsonl")
    source = file(tmp_path, pairs(250))
    system, splits = trained(Order(source=source, held_out=elsewhere))
    found = taken(source, system, held_out=True)
    assert (keys(found.rows), found.notes) == (keys(splits.test), ())
    Path(elsewhere).unlink()
    with pytest.raises(ValueError, match="--seen"):
        taken(source, system, held_out=True)


def test_a_version_whose_lineage_says_nothing_of_its_split_is_doubted(tmp_path: Path) -> None:
    """Rows are split as by default, and that is said when they are not the very same ones."""
    system, _ = trained(Order(source=file(tmp_path, pairs(150))))
    grown = file(tmp_path, pairs(200), "grown.jsonl")
    (note,) = taken(grown, changed(system, config={}), held_out=True).notes
    assert "nor does its lineage say" in note
    assert "nor does its lineage say" not in taken(grown, system, held_out=True).notes[0]


def test_a_command_that_nobody_can_read_says_nothing(tmp_path: Path) -> None:
    """Versions that something else has made are taken as they are."""
    source = file(tmp_path, pairs(150))
    system, splits = trained(Order(source=source))
    for command in ("make it 'so", "make --ner-model x"):
        found = taken(source, changed(system, command=command), held_out=True)
        assert keys(found.rows) == keys(splits.test)
    with pytest.raises(DataError, match="nosuch"):
        taken(str(tmp_path / "nosuch.jsonl"), system, held_out=True)
