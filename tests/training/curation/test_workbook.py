"""A run's candidates on the disk: how many there are does not show in memory."""

import sqlite3
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.loop import LoopPolicy
from training.curation import gather
from training.curation.candidates import Candidate
from training.curation.plan import Plan
from training.curation.workbook import Workbook

PLAN = Plan("support", "loop-1", "base", until_id=10**9, new_since=0.0, made_at=0.0)
POLICY = LoopPolicy(min_new_examples=1, max_examples=50, cap_per_subject=5, cap_per_key=40)


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Workbook]:
    """An empty workbook."""
    with Workbook(tmp_path / "work.db") as opened:
        yield opened


def one(number: int, kind: str, prompt: str) -> Candidate:
    """A candidate."""
    said = f"{prompt} {'x' * 100}"
    return Candidate(
        f"row-{number:09d}", f"req-{number}", f"u{number % 97}", f"k{number % 7}", "support@1",
        kind, "train", False, float(number), ({"role": "user", "content": said},), f"answer {number}",  # type: ignore[arg-type]
    )  # fmt: skip


def fill(book: Workbook, prompts: int, *, each: int = 1) -> None:
    """Store liked and disliked answers to so many prompts."""
    for number in range(prompts):
        rows = [
            one(2 * (number * each + nth) + place, kind, f"prompt {number}")
            for nth in range(each)
            for place, kind in enumerate(("liked", "disliked"))
        ]
        book.add(rows, {}, stage="gather", place=str(number))


def test_answers_to_one_prompt_are_paired_in_pages(book: Workbook) -> None:
    """Liked with disliked, as many as there are of the rarer, each once, across prompts and pages."""
    fill(book, 3, each=2)
    book.add([one(100, "liked", "prompt 1"), one(101, "liked", "alone")], {}, stage="gather", place="x")
    pages = list(book.both_ways(size=4))
    assert [len(page) for page in pages] == [4, 2]
    pairs = [pair for page in pages for pair in page]
    assert len({each for pair in pairs for each in pair}) == 12
    rows = book.rows([each for pair in pairs for each in pair])
    for better, worse in pairs:
        assert (rows[better]["kind"], rows[worse]["kind"]) == ("liked", "disliked")
        assert rows[better]["prompt"] == rows[worse]["prompt"]


def test_pairs_may_be_stored_while_they_are_read(book: Workbook) -> None:
    """Rows made of pairs are no answers: the pages that follow are what they would have been."""
    fill(book, 6)
    gather.compare(PLAN, book)
    compared = [row for page in book.pages() for row in page if row["kind"] == "compared"]
    assert len(compared) == 6


@pytest.mark.parametrize(
    ("caps", "reason"),
    [({"cap_per_subject": 3}, "cap_per_subject"), ({"cap_per_key": 3}, "cap_per_key")],
)
def test_caps_bind_both_halves_of_a_pair(book: Workbook, caps: dict[str, int], reason: str) -> None:
    """One who dislikes many good answers of others decides so many pairs as the cap allows, and no more."""
    for number in range(30):
        liked = replace(one(2 * number, "liked", f"prompt {number}"), unit=f"u{number}", key_id=f"k{number}")
        disliked = replace(one(2 * number + 1, "disliked", f"prompt {number}"), unit="loud", key_id="noisy")
        book.add([liked, disliked], {}, stage="gather", place=str(number))
    gather.compare(PLAN, book)
    gather.choose(PLAN, LoopPolicy(min_new_examples=1, **caps), book)
    rows = [row for page in book.chosen() for row in page]
    assert sum("loud" in (row["unit"], row["other_unit"]) for row in rows) == 3
    assert sum(row["unit"] != "loud" for row in rows) >= 30
    assert book.counts()[reason] == 57


def test_a_workbook_of_an_older_turnout_is_begun_anew(tmp_path: Path) -> None:
    """Its requests are read again: what it holds lacks what is wanted of them now."""
    old = sqlite3.connect(tmp_path / "work.db", isolation_level=None)
    old.executescript(
        "CREATE TABLE candidates (id TEXT PRIMARY KEY); INSERT INTO candidates VALUES ('row-1');"
        "CREATE TABLE progress (stage TEXT PRIMARY KEY, place TEXT);"
        "INSERT INTO progress VALUES ('gather', '7');"
    )
    old.close()
    for _ in range(2):
        with Workbook(tmp_path / "work.db") as book:
            assert book.place("gather") in (None, "1")
            book.add([one(1, "liked", "prompt")], {}, stage="gather", place="1")
            assert [row["id"] for page in book.pages() for row in page] == ["row-000000001"]


@pytest.mark.parametrize(("prompts", "each"), [(10, 1), (1, 10)])
def test_ten_times_the_candidates_take_no_more_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompts: int, each: int
) -> None:
    """Pairing, leaving out what is known, and choosing read by pages: of many prompts, and of one."""
    monkeypatch.setattr(gather, "PAGE", 20)
    peaks = []
    for times in (10, 100):
        with Workbook(tmp_path / f"{times}.db") as book:
            fill(book, prompts * times if prompts > 1 else 1, each=each * times if each > 1 else 1)
            tracemalloc.start()
            gather.compare(PLAN, book)
            gather.choose(PLAN, POLICY, book)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
            assert len(book.chosen_ids()) == POLICY.max_examples
    assert peaks[1] < 1.5 * peaks[0] + 30_000
