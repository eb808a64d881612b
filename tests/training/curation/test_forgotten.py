"""Who is forgotten while a run chooses its rows, or after it, is in no file of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.curation import Verdict
from gateway.store import run_files
from gateway.store.forgetting import Forgetting
from gateway.store.golden import GoldenRow
from gateway.store.tombstones import Tombstone
from tests.training.curation.conftest import ROUTE, Fleet, numbers, prompt, rows
from training.curation import curate as module
from training.curation import gather
from training.curation.workbook import Workbook
from training.data.subjects import split_of

FOREVER = 9e9


def forget(fleet: Fleet, unit: str) -> Tombstone:
    """Forget a subject as the gateway does."""
    gone = Forgetting(
        fleet.store.database,
        fleet.requests.database,
        scrub=lambda about: run_files.scrub(fleet.folder, about),
    )
    return gone.work(Tombstone("x", "y", FOREVER), lambda found, _: found == unit)


def said(fleet: Fleet) -> bytes:
    """Everything that the files of the runs hold."""
    return b"".join(path.read_bytes() for path in (fleet.folder / "loop").rglob("*") if path.is_file())


def units(count: int, split: str) -> list[int]:
    """So many numbers whose subjects are on one side."""
    found = (n for n in range(1000) if split_of(ROUTE, unit=f"u{n}", key_id="app", at=0.0) == split)
    return [next(found) for _ in range(count)]


class Killed(Exception):
    """Ends a run where it stands."""


def killed(*_: Any, **__: Any) -> Any:
    """End the run."""
    raise Killed


def meanwhile(monkeypatch: pytest.MonkeyPatch, done: Any) -> None:
    """Have something done once, while rows are decided on."""
    real, once = module.decide, [True]

    def decide(*given: Any) -> Any:
        found = real(*given)
        if once:
            once.clear()
            done()
        return found

    monkeypatch.setattr(module, "decide", decide)


def with_addresses(fleet: Fleet) -> None:
    """Record liked answers, each with an address that is masked before rows are stored."""
    for number in range(30):
        fleet.ask(number, prompt=f"{prompt(number)} mail ann{number}@example.org")
        fleet.rate(number, value=True)


def test_what_a_stopped_run_has_read_is_gone_with_whoever_is_forgotten(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ended where it read leaves nobody's texts, and begun again it is the same without them."""
    with_addresses(fleet)
    with monkeypatch.context() as patch:
        patch.setattr(module, "propose", killed)
        with pytest.raises(Killed):
            fleet.curate()
    assert b"ann3@example.org" in said(fleet)
    assert forget(fleet, "u3").state == "done"
    assert b"@example.org" not in said(fleet)
    fleet.curate()
    used = rows(fleet, "train") + rows(fleet, "held_out_new")
    assert numbers(used) == set(range(30)) - {3}


@pytest.mark.parametrize("end", ["killed", "done"])
def test_who_is_forgotten_while_a_run_reads_is_not_written_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    """The run works on without them, and what it writes meanwhile is no file that anybody finds."""
    with_addresses(fleet)
    monkeypatch.setattr(gather, "PAGE", 7)
    real, left = Workbook.add, [2]

    def forgetting(self: Any, *given: Any, **more: Any) -> None:
        left[0] -= 1
        if left[0] == 0:  # read, and not stored yet
            forget(fleet, "u9")
        real(self, *given, **more)
        if left[0] < 0 and end == "killed":
            raise Killed

    monkeypatch.setattr(Workbook, "add", forgetting)
    if end == "killed":
        with pytest.raises(Killed):
            fleet.curate()
        assert b"@example.org" not in said(fleet)
        monkeypatch.setattr(Workbook, "add", real)
    fleet.curate()
    used = rows(fleet, "train") + rows(fleet, "held_out_new")
    assert numbers(used) == set(range(30)) - {9}
    assert b"example.org" not in said(fleet)


def test_the_worse_answer_of_a_pair_goes_with_its_subject(fleet: Fleet) -> None:
    """A pair is in the files by both subjects' pseudonyms, also when the worse one's request is pruned."""
    found = units(12, "train")
    bob = f"u{found[0]}"
    for number in found[1:]:
        fleet.ask(number, prompt=prompt(number))
        fleet.rate(number, value=True)
        fleet.ask(number + 1000, prompt=prompt(number), unit=bob, answer=f"bob got {number}")
        fleet.rate(number + 1000, value=False, unit=bob)
    fleet.curate(method="dpo", cap_per_subject=100)
    before = rows(fleet, "train")
    assert len(before) == 11
    assert {row["other_subject"] for row in before} == {bob}
    fleet.requests.remove([f"req-{number + 1000:08x}" for number in found[1:]])
    done = forget(fleet, bob)
    assert (done.runs, done.counts["lines_of_files"]) == (["loop-1"], 11)
    assert b"bob got" not in said(fleet)
    assert all(row.rejected is None for row in fleet.store.curation.page(ROUTE))


def test_a_pair_of_one_subject_names_it_once(fleet: Fleet) -> None:
    """And a row that is judged by has nothing of the worse answer, nor its subject."""
    for number in [*units(6, "train"), *units(6, "held_out")]:
        unit = f"u{number}"
        fleet.ask(number, prompt=prompt(number), unit=unit)
        fleet.rate(number, value=True, unit=unit)
        fleet.ask(number + 1000, prompt=prompt(number), unit=unit, answer="worse")
        fleet.rate(number + 1000, value=False, unit=unit)
    fleet.curate(method="dpo")
    assert len(rows(fleet, "train")) == len(rows(fleet, "held_out_new")) == 6
    assert not any("other_subject" in row for row in rows(fleet, "train") + rows(fleet, "held_out_new"))


@pytest.mark.parametrize("policy", [{"review": True}, {"min_new_examples": 100}])
def test_who_is_forgotten_while_rows_are_decided_on_is_in_no_file_of_a_run_that_waits(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch, policy: dict[str, Any]
) -> None:
    """Nor of one that has too little: such runs use no rows, and have files all the same."""
    fleet.shown(range(30))
    if "review" in policy:
        fleet.curate("loop-0", min_new_examples=100)
        approved = [row.id for row in fleet.store.curation.page(ROUTE) if row.unit in ("u3", "u5")]
        fleet.store.curation.decide(approved, Verdict("approve", {}), actor="ann")
    meanwhile(monkeypatch, lambda: forget(fleet, "u3"))
    found = fleet.curate(**policy)
    assert found["outcome"] in ("waiting_review", "too_little_data")
    folder = fleet.folder / "loop" / "loop-1"
    texts = b"".join(path.read_bytes() for path in folder.glob("*.jsonl"))
    assert b'"u5"' in texts
    assert b'"u3"' not in texts


def gold(number: int) -> GoldenRow:
    """A golden row that says what a request says."""
    messages = [{"role": "user", "content": prompt(number)}]
    return GoldenRow(f"gold-{number}", ROUTE, 1, messages, "gold", {}, unit=f"u{number}")


def test_golden_rows_that_come_while_rows_are_decided_on_are_for_the_next_run(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a run trains on was not kept apart from them: it is not judged by them."""
    near, *_ = units(1, "train")
    fleet.shown(range(30))
    fleet.store.golden.add([gold(500)], route=ROUTE, number=1, actor="ann")
    meanwhile(monkeypatch, lambda: fleet.store.golden.add([gold(near)], route=ROUTE, number=1, actor="ann"))
    found = fleet.curate()
    assert near in numbers(rows(fleet, "train"))
    assert ([row["row_id"] for row in rows(fleet, "golden")], found["golden"]) == (["gold-500"], 1)
    fleet.curate("loop-2")
    assert {row["row_id"] for row in rows(fleet, "golden", "loop-2")} == {"gold-500", f"gold-{near}"}
    assert near not in numbers(rows(fleet, "train", "loop-2"))


def test_a_golden_row_that_goes_while_rows_are_decided_on_is_in_no_file(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows are chosen anew, as when one that is trained on goes."""
    fleet.shown(range(30))
    fleet.store.golden.add([gold(500), gold(501)], route=ROUTE, number=1, actor="ann")
    meanwhile(monkeypatch, lambda: forget(fleet, "u500"))
    assert fleet.curate()["golden"] == 1
    assert b"u500" not in said(fleet)
    path = Path(fleet.folder / "loop" / "loop-1" / "golden.jsonl")
    assert [json.loads(line)["row_id"] for line in path.read_text().splitlines()] == ["gold-501"]
