"""Which rows are judged by."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from adapters.manifest import BaseIdentity, Lineage, Manifest
from training.data.prepare import Prepared, PrepareOptions, prepare
from training.data.reading import read_dataset
from training.data.rows import DataError, Row
from training.data.splits import Shares, Splits
from training.evaluation.sources import Taken, Wanted, take
from training.evaluation.systems import System
from training.publishing.lineage import fingerprint

LETTERS = str.maketrans("0123456789", "ghijklmnop")
"""Numbers might be taken for somebody's telephone."""


def file(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> str:
    """Write rows and return the path."""
    path = folder / name
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return str(path)


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Return rows of prompts, no two of them alike, and answers."""
    made = []
    for number in range(start, start + count):
        digest = hashlib.sha256(str(number).encode()).hexdigest().translate(LETTERS)
        words = " ".join(digest[at : at + 4] for at in range(0, 48, 4))
        made.append({"prompt": words, "completion": "ab"[number % 2]})
    return made


def as_trained(source: str, shares: Shares) -> Prepared:
    """Return what training makes of a source."""
    return prepare(source, PrepareOptions(shares=shares, embeddings=False))


def split(source: str, shares: Shares) -> Splits[Any]:
    """Return the splits of training."""
    splits = as_trained(source, shares).splits
    assert splits is not None
    return splits


def keys(rows: Sequence[Row]) -> set[str]:
    """Return what tells rows apart."""
    return {row.key for row in rows}


def trained_on(source: str, *, counts: dict[str, int], config: dict[str, Any] | None = None) -> System:
    """Return a system whose lineage names these rows."""
    lineage = Lineage(
        recipe="r",
        data_source="s",
        data_terms="t",
        data_fingerprint=fingerprint(read_dataset(source).rows),
        rows=counts,
        config=config or {},
        command="c",
        code_version="v",
    )
    manifest = Manifest(
        name="one",
        digest="sha256:1",
        base=BaseIdentity(name="b"),
        rank=4,
        alpha=8,
        target_modules=("q",),
        dtype="float32",
        size_bytes=1,
        source="s",
        created_at=0,
        lineage=lineage,
    )
    return System("one@1", Path("x"), "sha256:1", manifest)


def taken(source: str, candidate: System | None = None, **options: Any) -> Taken:
    """Take rows with these options."""
    given = {"columns": None, "limit": 1000, "held_out": False, "shares": {}, **options}
    return take(Wanted(source, **given), candidate or System("x"))


def test_all_rows_are_taken_each_prompt_once(tmp_path: Path) -> None:
    """In the order of the file; a limit takes the same rows whatever is added."""
    source = file(tmp_path, [*pairs(30), *pairs(3)])
    assert [row.line for row in taken(source).rows] == list(range(1, 31))
    few = taken(source, limit=10)
    more = taken(file(tmp_path, pairs(60), "more.jsonl"), limit=20)
    assert len(few.rows) == 10
    assert len({row.key for row in few.rows} & {row.key for row in more.rows}) >= 1
    assert few.train == ()


def test_rows_that_are_judged_by_are_not_trained_on(tmp_path: Path) -> None:
    """Baselines get the other rows of `--train`, and it is said."""
    found = taken(file(tmp_path, pairs(10)), train=file(tmp_path, pairs(20, 5), "train.jsonl"))
    assert len(found.train) == 15
    assert "5 rows" in found.notes[0]


def test_the_rows_of_training_are_refused_unless_one_knows(tmp_path: Path) -> None:
    """Judging by what was learned flatters."""
    source = file(tmp_path, pairs(100))
    system = trained_on(source, counts={})
    with pytest.raises(ValueError, match="--held-out"):
        taken(source, system)
    assert len(taken(source, system, seen=True).rows) == 100


@pytest.mark.slow
def test_held_out_rows_are_those_of_the_split(tmp_path: Path) -> None:
    """The test rows are judged by, the train rows go to the baselines."""
    source = file(tmp_path, pairs(200))
    splits = split(source, Shares())
    found = taken(source, trained_on(source, counts=splits.counts()), held_out=True)
    assert keys(found.rows) == keys(splits.test)
    assert keys(found.train) == keys(splits.train)
    assert found.notes == ()


@pytest.mark.slow
def test_a_split_that_was_made_in_another_way_is_not_guessed(tmp_path: Path) -> None:
    """The recorded numbers of rows tell; the right options, or a lineage that has them, mend it."""
    source = file(tmp_path, pairs(200))
    splits = split(source, Shares(test=0.4, max_train=20))
    system = trained_on(source, counts=splits.counts())
    with pytest.raises(ValueError, match="--test-share"):
        taken(source, system, held_out=True)
    found = taken(source, system, held_out=True, shares={"test": 0.4, "validation": None, "max_train": 20})
    assert keys(found.rows) == keys(splits.test)
    recorded = trained_on(
        source, counts=splits.counts(), config={"split": {"test": 0.4, "max_train": 20, "near": 0.8}}
    )
    assert keys(taken(source, recorded, held_out=True).rows) == keys(splits.test)


@pytest.mark.slow
def test_rows_that_were_added_since_are_noted(tmp_path: Path) -> None:
    """The split of the others stands."""
    source = file(tmp_path, pairs(200))
    system = trained_on(source, counts=split(source, Shares()).counts())
    grown = file(tmp_path, pairs(300), "grown.jsonl")
    assert "no longer" in taken(grown, system, held_out=True).notes[0]
    assert "nobody can check" in taken(grown, System("./x"), held_out=True).notes[0]


@pytest.mark.parametrize(
    ("rows", "count", "note"),
    [
        ([{"prompt": f"q{n}", "chosen": "a", "rejected": "b"} for n in range(6)], 6, None),
        (
            [{"prompt": f"q{n}", "completion": "a", "label": n % 3 > 0} for n in range(12)],
            8,
            "4 rows",
        ),
    ],
)
def test_other_kinds_of_rows_give_their_good_answers(
    tmp_path: Path, rows: list[dict[str, Any]], count: int, note: str | None
) -> None:
    """Of a pair the better answer, of rated ones those that were liked."""
    found = taken(file(tmp_path, rows))
    assert len(found.rows) == count
    assert {row.completion for row in found.rows} == {"a"}
    assert (note is None) == (found.notes == ())


def test_texts_are_what_is_wanted(tmp_path: Path) -> None:
    """Each counts once, after nothing; those that are judged by are left out of `--train`."""
    texts = [{"text": f"some text {letter}", "topic": letter} for letter in "abcdefghij"]
    found = taken(file(tmp_path, [*texts, *texts[:3]]), train=file(tmp_path, texts[5:], "train.jsonl"))
    assert [(row.messages, row.completion) for row in found.rows] == [((), each["text"]) for each in texts]
    assert found.rows[0].columns == {"topic": "a"}
    assert len(taken(file(tmp_path, texts), limit=6).rows) == 6
    assert found.train == ()


def test_texts_of_training_are_refused_too(tmp_path: Path) -> None:
    """Their fingerprint is that of the rows as they were read, whatever kind they are of."""
    source = file(tmp_path, [{"text": f"some text {letter}"} for letter in "abcdefghij"])
    with pytest.raises(ValueError, match="--held-out"):
        taken(source, trained_on(source, counts={}))


@pytest.mark.parametrize("rows", [[{"text": f"some text {n}"} for n in range(4)], pairs(4)])
def test_too_few_wanted_answers_are_refused(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """Four rows say nothing."""
    with pytest.raises(DataError, match="at least 5"):
        taken(file(tmp_path, rows))


OPEN = [{"prompt": f"q{n}", "completion": "a", "label": int(n % 3 > 0)} for n in range(12)]
"""A rating, or an answer with one more field."""


@pytest.mark.parametrize(("form", "count"), [("rated", 8), ("prompt-completion", 12)])
def test_the_form_is_said_where_fields_leave_it_open(tmp_path: Path, form: str, count: int) -> None:
    """As in training, for the rows to judge by and for those of the baselines; otherwise it is asked for."""
    source, more = file(tmp_path, OPEN), [{**row, "prompt": f"other {row['prompt']}"} for row in OPEN]
    train = file(tmp_path, more, "train.jsonl")
    with pytest.raises(DataError, match="--format prompt-completion or --format rated"):
        taken(source)
    found = taken(source, form=form, train=train)
    assert (len(found.rows), len(found.train)) == (count, count)


@pytest.mark.slow
def test_the_form_is_said_of_the_data_of_training_too(tmp_path: Path) -> None:
    """What training was told, held-out rows are found again with."""
    rows = [{**row, "label": number % 2} for number, row in enumerate(pairs(200))]
    source = file(tmp_path, rows)
    with pytest.raises(DataError, match="--format"):
        taken(source, System("./x"), held_out=True)
    trained = prepare(source, PrepareOptions(form="prompt-completion", embeddings=False)).splits
    assert trained is not None
    found = taken(source, System("./x"), held_out=True, form="prompt-completion")
    assert keys(found.rows) == keys(trained.test)
