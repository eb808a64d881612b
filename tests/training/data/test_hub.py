"""Data sets that are saved on the disk, and what is said of a hub that can't be asked."""

import json
from pathlib import Path

import pytest

from training.data.hub import HubSource
from training.data.reading import read_dataset
from training.data.rows import DataError, Example

ROWS = {"prompt": ["a", "b"], "completion": ["c", "d"]}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("org/name", HubSource("org/name")),
        ("hf://org/name@main", HubSource("org/name", "main")),
        ("hf://org/name#en:test", HubSource("org/name", None, "en", "test")),
        ("hf://org/name@v1#:train[:10%]", HubSource("org/name", "v1", None, "train[:10%]")),
    ],
)
def test_a_source_names_revision_configuration_and_split(source: str, wanted: HubSource) -> None:
    """As in hf:// of adapters, the revision stands after an at sign."""
    assert HubSource.parse(source) == wanted


def test_an_empty_source_is_refused() -> None:
    """Nothing is no data set."""
    with pytest.raises(DataError, match="hf://ORG/NAME"):
        HubSource.parse("hf://")


def test_a_file_that_is_not_there_is_asked_of_no_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in a path such as data/rows.jsonl is a missing file, though it looks like an id."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=r"data/rows\.jsonl is not a file"):
        read_dataset("data/rows.jsonl")


@pytest.mark.slow
def test_saved_data_sets_are_read(tmp_path: Path) -> None:
    """One that is a table, and one of several splits, of which train is meant unless another is named."""
    from datasets import Dataset, DatasetDict

    table = Dataset.from_dict(ROWS)
    table.save_to_disk(str(tmp_path / "table"))
    other = Dataset.from_dict({"prompt": ["x"], "completion": ["y"]})
    DatasetDict({"train": table, "test": other}).save_to_disk(str(tmp_path / "splits"))
    DatasetDict({"one": table, "two": other}).save_to_disk(str(tmp_path / "odd"))
    for source, answers in (("table", ["c", "d"]), ("splits", ["c", "d"])):
        found = read_dataset(str(tmp_path / source)).rows
        assert [(row.completion, row.line) for row in found if isinstance(row, Example)] == [
            (answer, line) for line, answer in enumerate(answers, start=1)
        ]
    (row,) = read_dataset(f"hf://{tmp_path / 'splits'}#:test").rows
    assert isinstance(row, Example)
    assert row.completion == "y"
    with pytest.raises(DataError, match="has the splits one, two; say which"):
        read_dataset(str(tmp_path / "odd"))
    with pytest.raises(DataError, match="no split 'dev'; it has train, test"):
        read_dataset(f"hf://{tmp_path / 'splits'}#:dev")


@pytest.mark.slow
def test_a_folder_of_files_is_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the library can load from a folder is read as one."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "train.jsonl").write_text(json.dumps({"prompt": "a", "completion": "c"}), encoding="utf-8")
    (row,) = read_dataset(str(folder)).rows
    assert isinstance(row, Example)
    assert row.completion == "c"


@pytest.mark.slow
def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    """The message names it."""
    with pytest.raises(DataError, match="can't be read as a data set"):
        read_dataset(str(tmp_path))
