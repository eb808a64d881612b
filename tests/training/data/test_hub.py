"""Data sets that are saved on the disk, and what is said of a hub that can't be asked."""

import json
from pathlib import Path
from typing import Any

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


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A data set of two configurations, as a repository has it, that is found by the id `org/name`."""
    pytest.importorskip("datasets")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "org" / "name"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    for name in ("en-train", "en-test", "fr"):
        lines = [json.dumps({"prompt": f"{name} {number}", "completion": "c"}) for number in range(4)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return "hf://org/name"


CARD = """---
configs:
- config_name: en
  data_files:
  - split: train
    path: en-train.jsonl
  - split: test
    path: en-test.jsonl
- config_name: fr
  data_files: fr.jsonl
---
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "name", "count"),
    [
        ("#en", "en-train", 4),
        ("#en:test", "en-test", 4),
        ("#fr", "fr", 4),
        ("#en:train[:50%]", "en-train", 2),
    ],
)
def test_the_configuration_and_the_split_are_read(repository: str, part: str, name: str, count: int) -> None:
    """The library itself takes them, by a repository's own card."""
    rows = read_dataset(repository + part).rows
    assert [row.key for row in rows] == [f"user: {name} {number}" for number in range(count)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("part", "said"),
    [
        ("", r"Config name is missing.*\['en', 'fr'\].*#CONFIG"),
        ("#de", r"'de' not found. Available: \['en', 'fr'\]"),
        ("#en:dev", "has no split 'dev'; it has train, test"),
        ("#en:dev[:50%]", r'Unknown split "dev".*train'),
    ],
)
def test_what_a_data_set_does_not_have_is_said_with_what_it_has(
    repository: str, part: str, said: str
) -> None:
    """The reader can mend the source without looking it up."""
    with pytest.raises(DataError, match=said):
        read_dataset(repository + part)


@pytest.mark.slow
def test_a_hub_that_is_not_asked_is_said(repository: str) -> None:
    """Without a network nothing is tried; it is no mistake of the caller, so it is no DataError."""
    assert repository
    with pytest.raises(ConnectionError, match=r"org/none .*HF_HUB_OFFLINE"):
        read_dataset("org/none")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "asked"),
    [
        ("org/other", ("org/other", None, None, None)),
        ("hf://org/other@v2#en", ("org/other", "en", None, "v2")),
        ("hf://org/other@v2#en:test", ("org/other", "en", None, "v2")),
        ("hf://org/other#:test[:1]", ("org/other", None, "test[:1]", None)),
    ],
)
def test_the_library_is_asked_for_id_configuration_split_and_revision(
    monkeypatch: pytest.MonkeyPatch, source: str, asked: tuple[str | None, ...]
) -> None:
    """A split as a whole is chosen afterwards, so that those there are can be named."""
    import datasets

    calls: list[tuple[str | None, ...]] = []

    def load(name: str, config: str | None, *, split: str | None, revision: str | None) -> Any:
        calls.append((name, config, split, revision))
        table = datasets.Dataset.from_dict(ROWS)
        return table if split else datasets.DatasetDict({"train": table, "test": table})

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert len(read_dataset(source).rows) == 2
    assert calls == [asked]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("message", "said"),
    [
        (
            "Dataset 'org/x' doesn't exist on the Hub or cannot be accessed.",
            "doesn't exist on the Hub or cannot be accessed",
        ),
        (
            "Dataset 'org/x' is a gated dataset on the Hub. You must be authenticated to access it.",
            "gated dataset.*HF_TOKEN",
        ),
        ("Revision 'v9' doesn't exist for dataset 'org/x' on the Hub.", "Revision 'v9' doesn't exist"),
    ],
)
def test_what_the_hub_refuses_is_a_mistake_that_names_the_source(
    monkeypatch: pytest.MonkeyPatch, message: str, said: str
) -> None:
    """With the library's own reason, and what to do where it does not say it."""
    import datasets

    def refuse(*_: Any, **__: Any) -> None:
        raise datasets.exceptions.DatasetNotFoundError(message)

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(DataError, match=f"hf://org/x@v9 can't be read as a data set: .*{said}"):
        read_dataset("hf://org/x@v9")
