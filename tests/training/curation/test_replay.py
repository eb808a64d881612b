"""What a version was trained on, found again."""

import csv
from pathlib import Path
from typing import Any

import pytest

from gateway.store.control import ControlStore
from tests.training.curation.conftest import Fleet, prompt
from training.curation.replay import old_rows, order_in
from training.data.prepare import prepare
from training.runs.order import command_line, order_of
from training.runs.sources import reading_of, split_of


def published(store: ControlStore, lineage: dict[str, Any] | None) -> str:
    """Store a version with a lineage and return its label."""
    plain = {
        "recipe": "turnout train", "data_source": "rows.csv", "data_terms": "x", "data_fingerprint": "f",
        "rows": {}, "config": {}, "command": "turnout train", "code_version": "v",
    }  # fmt: skip
    manifest = {
        "name": "a", "digest": "d", "base": {"name": "b"}, "rank": 8, "alpha": 8.0, "target_modules": ["q"],
        "dtype": "bf16", "size_bytes": 1, "source": "s", "created_at": 1.0,
        "lineage": None if lineage is None else {**plain, **lineage},
    }  # fmt: skip
    digest = f"d{len(store.versions.rows())}"
    return str(store.versions.add("a", digest, manifest, actor="test")[0].ref)


@pytest.mark.slow
def test_the_file_of_a_version_is_found_and_split_as_then(fleet: Fleet) -> None:
    """By the command that lineage keeps, with its columns; a file that has changed since is not used."""
    path = fleet.folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["text", "mood"])
        lines.writerows([prompt(number), ("good", "bad")[number % 2]] for number in range(60))
    order = order_of(
        {
            "name": "a",
            "source": str(path),
            "prompt_column": "text",
            "completion_column": "mood",
            "test_share": 0.2,
            "embeddings": False,
        }
    )
    found = prepare(str(path), reading_of(order))
    assert found.splits is not None
    lineage = {
        "command": command_line(order),
        "data_fingerprint": found.report.fingerprint,
        "config": {"split": split_of(order)},
    }
    label = published(fleet.store, lineage)
    old = old_rows(fleet.store, label, state_dir=fleet.folder)
    assert {row.key for row in old.train} == {row.key for row in found.splits.train}
    assert {row.key for row in old.held_out} == {row.key for row in found.splits.test}
    assert (old.note, old.run) == ("replayed from rows.csv", None)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{prompt(99)},good\n")
    changed = old_rows(fleet.store, label, state_dir=fleet.folder)
    assert (changed.train, "not what a@1 was trained from" in changed.note) == ((), True)
    path.unlink()
    assert "not here any more" in old_rows(fleet.store, label, state_dir=fleet.folder).note


@pytest.mark.parametrize(
    ("lineage", "said"),
    [
        (None, "no lineage"),
        ({"command": "turnout train a turnout:support"}, "not here any more"),
        ({"command": "make it 'so"}, "not here any more"),
        ({"command": "turnout train --from-the-future x"}, "not here any more"),
        ({"loop_run": "loop-gone"}, "not here any more"),
    ],
)
def test_what_is_not_here_is_said(fleet: Fleet, lineage: dict[str, Any] | None, said: str) -> None:
    """Nothing is replayed then, and nothing breaks."""
    old = old_rows(fleet.store, published(fleet.store, lineage), state_dir=fleet.folder)
    assert (old.train, said in old.note) == ((), True)
    assert "base model" in old_rows(fleet.store, "base", state_dir=fleet.folder).note


def test_a_command_becomes_the_order_that_it_was() -> None:
    """With every option that decides which rows there are."""
    given = {"name": "a", "source": "b.csv", "prompt_column": "text", "weight_column": "w", "test_share": 0.3}
    found = order_in(command_line(order_of({**given, "near": 0.9, "conflicts": "keep"})))
    assert found is not None
    assert {name: getattr(found, name) for name in given} == given
    assert (found.near, found.conflicts) == (0.9, "keep")
    assert order_in("turnout evaluate a b") is None


def test_the_rows_of_a_run_whose_folder_is_gone_come_from_the_store(fleet: Fleet, tmp_path: Path) -> None:
    """As long as nobody in them is forgotten."""
    import shutil

    fleet.shown(range(20))
    fleet.curate()
    shutil.rmtree(tmp_path / "loop")
    label = published(fleet.store, {"loop_run": "loop-1"})
    old = old_rows(fleet.store, label, state_dir=fleet.folder)
    uses = fleet.store.curation.uses("loop-1")
    assert len(old.train) == sum(part == "train" for _, part in uses)
    assert len(old.held_out) == sum(part != "train" for _, part in uses)
    assert old.run == "loop-1"
