"""Reading golden, old and new rows."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.curation import CuratedRow
from gateway.store.golden import GoldenRow
from training.curation.rows import golden_example, to_judge
from training.data.rows import DataError, Example
from training.data.writing import document
from training.gate.measure import slices_in
from training.gate.rows import Sets, columns_of, read_sets, trusted, units_of


def written(folder: Path, **sets: list[dict[str, Any]]) -> dict[str, Path]:
    """Write each set to a file; a set that is not named is an empty file."""
    paths = {}
    for name in ("golden", "old", "new"):
        paths[name] = folder / f"{name}.jsonl"
        paths[name].write_text("".join(json.dumps(row) + "\n" for row in sets.get(name, [])))
    return paths


def row(number: int, **columns: Any) -> dict[str, Any]:
    """Return one row as curation writes it."""
    return {"prompt": f"prompt {number}", "completion": "yes", "row_id": f"r{number}", **columns}


def test_each_set_is_read_and_may_be_empty(tmp_path: Path) -> None:
    """Rows in two sets are asked once; what is there twice in one is left out with a note."""
    paths = written(tmp_path, old=[row(1), row(2), row(2)], new=[row(2), row(3, trusted=True)])
    found = read_sets(paths, trained=None)
    assert [len(found.rows[name]) for name in ("golden", "old", "new")] == [0, 2, 2]
    assert len(found.all()) == 3
    assert "1 of 3 old rows" in found.notes[0]
    assert [trusted(each) for each in found.rows["new"]] == [False, True]


def test_answers_that_were_disliked_are_not_wanted(tmp_path: Path) -> None:
    """Of rated rows the liked ones are judged by."""
    rated = [{"prompt": f"p{n}", "completion": "a", "label": n % 2 == 0} for n in range(6)]
    found = read_sets(written(tmp_path, new=rated), trained=None)
    assert len(found.rows["new"]) == 3


def test_rows_that_were_trained_on_are_refused(tmp_path: Path) -> None:
    """A judged prompt among the training rows is an error that names set and line."""
    paths = written(tmp_path, old=[row(1), row(2)], new=[row(3)])
    trained = tmp_path / "train.jsonl"
    trained.write_text(json.dumps(row(9)) + "\n" + json.dumps(row(2)) + "\n")
    with pytest.raises(DataError, match=r"1 old rows are in .*line 2"):
        read_sets(paths, trained=trained)
    assert read_sets(paths, trained=tmp_path / "none.jsonl").rows["old"]


@pytest.mark.parametrize("broken", ["missing", "empty"])
def test_nothing_to_judge_by_is_said(tmp_path: Path, broken: str) -> None:
    """A file that is not there is a mistake, and so are three empty ones."""
    paths = written(tmp_path)
    if broken == "missing":
        paths["new"].unlink()
    with pytest.raises(DataError, match="is not a file" if broken == "missing" else "hold no rows"):
        read_sets(paths, trained=None)


def test_fields_make_slices_and_names_do_not() -> None:
    """Ids, subjects and trust make none; nor do fields with one value or too many."""
    rows = [
        Example(
            ({"role": "user", "content": f"{number} " + "x" * (number % 7)},),
            "yes",
            number,
            {
                "row_id": str(number),
                "subject": f"s{number // 2}",
                "trusted": "true",
                "product": "ab"[number % 2],
                "route": "one",
                "kind": ("liked", "demonstration")[number % 2],
                "serial": str(number),
            },
        )
        for number in range(60)
    ]
    assert columns_of(rows) == ["product"]
    assert len(set(units_of(rows))) == 30
    sets = Sets({"golden": tuple(rows[:12]), "old": tuple(rows[10:]), "new": ()}, ())
    slices = slices_in(sets, "old")
    assert {"product = a", "product = b", "golden", "held out"} <= set(slices)
    assert len(slices["golden"]) == 12
    assert all(len(places) < 60 for places in slices.values())


@pytest.mark.parametrize("name", ["subject", "unit"])
def test_rows_of_one_person_are_drawn_together(tmp_path: Path, name: str) -> None:
    """Under the name that curation gives them and under that of `turnout data`; neither makes slices."""
    rows = [row(number, **{name: f"u{number // 8}"}) for number in range(72)] + [row(72), row(73)]
    found = read_sets(written(tmp_path, old=rows), trained=None).asked()["old"]
    assert len(set(units_of(found))) == 9 + 2
    assert columns_of(found) == []


def test_rows_are_read_as_curation_writes_them(tmp_path: Path) -> None:
    """Subjects, trust and ids arrive; how a row came about makes no slice, a golden row's own fields do."""
    curated = [
        CuratedRow(
            id=f"row-{number}",
            route="support",
            request_id=f"request-{number}",
            other_id=None,
            unit=f"subject-{number // 2}",
            key_id="key-1",
            adapter=f"support@{1 + number % 2}",
            kind=("liked", "demonstration")[number % 2],
            split="held_out",
            trusted=number % 4 == 0,
            state="proposed",
            at=1000.0 + number,
            proposed_at=2000.0,
            proposed_by="loop",
            messages=({"role": "user", "content": f"prompt {number}"},),
            answer="yes",
        )
        for number in range(8)
    ]
    asked = [{"role": "user", "content": "golden prompt"}]
    golden = GoldenRow("gold-1", "support", 1, asked, "no", {"product": "x"})
    paths = written(tmp_path)
    new = [judged for each in curated if (judged := to_judge(each)) is not None]
    for name, found in (("new", new), ("golden", [golden_example(golden)])):
        paths[name].write_text("".join(json.dumps(document(each)) + "\n" for each in found))
    sets = read_sets(paths, trained=None)
    assert [trusted(each) for each in sets.rows["new"]] == [number % 4 == 0 for number in range(8)]
    assert len(set(units_of(sets.rows["new"]))) == 4
    assert columns_of(sets.rows["new"]) == []
    assert columns_of([*sets.rows["new"], *sets.rows["golden"]]) == ["product"]
