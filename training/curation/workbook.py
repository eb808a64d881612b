"""A run's candidates on the disk: a million of them take no more memory than a page.

Each page is stored with the place where it ended, in one transaction: a run that is killed goes on there. The
file is only the run's own, and goes when its rows are proposed.
"""

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Self

from training.curation.candidates import Candidate
from training.data.normalise import normal_form

_LAYOUT = 2
_TABLES = """
CREATE TABLE IF NOT EXISTS candidates (
    id TEXT PRIMARY KEY, request_id TEXT NOT NULL, other_id TEXT, unit TEXT, key_id TEXT NOT NULL,
    other_unit TEXT, other_key_id TEXT,
    adapter TEXT NOT NULL, kind TEXT NOT NULL, split TEXT NOT NULL, trusted INTEGER NOT NULL,
    at REAL NOT NULL, messages TEXT NOT NULL, answer TEXT NOT NULL, rejected TEXT, prompt TEXT NOT NULL,
    said TEXT NOT NULL, novelty REAL, reviewed INTEGER NOT NULL DEFAULT 0, chosen INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_request ON candidates (request_id);
CREATE INDEX IF NOT EXISTS by_prompt ON candidates (prompt, kind);
CREATE INDEX IF NOT EXISTS by_novelty ON candidates (split, reviewed DESC, novelty DESC, id);
CREATE TABLE IF NOT EXISTS progress (stage TEXT PRIMARY KEY, place TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dropped (reason TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
"""
_AFRESH = f"""
DROP TABLE IF EXISTS candidates; DROP TABLE IF EXISTS progress; DROP TABLE IF EXISTS dropped;
PRAGMA user_version = {_LAYOUT};
"""
_COLUMNS = (
    "id", "request_id", "other_id", "unit", "key_id", "other_unit", "other_key_id", "adapter", "kind",
    "split", "trusted", "at", "messages", "answer", "rejected", "prompt", "said",
)  # fmt: skip
_INSERT = (
    f"INSERT OR IGNORE INTO candidates ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608 - names of ours
)
DONE = "done"


class Workbook:
    """The candidates of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        if self._db.execute("PRAGMA user_version").fetchone()[0] != _LAYOUT:
            self._db.executescript(_AFRESH)  # an older Turnout began the run: its requests are read again
        self._db.executescript(_TABLES)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def place(self, stage: str) -> str | None:
        """Return how far a stage is, or None where it has not begun."""
        row = self._db.execute("SELECT place FROM progress WHERE stage = ?", (stage,)).fetchone()
        return None if row is None else str(row[0])

    def add(self, found: Iterable[Candidate], dropped: Mapping[str, int], *, stage: str, place: str) -> None:
        """Store a page of candidates, what was left out of it, and where it ended, all or nothing."""
        values = [_values(asdict(each), each.prompt) for each in found]
        with self._transaction():
            self._db.executemany(_INSERT, values)
            self._count(dropped)
            self._reach(stage, place)

    def add_compared(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Store rows made of two candidates."""
        with self._transaction():
            self._db.executemany(_INSERT, [tuple(row[name] for name in _COLUMNS) for row in rows])

    def set_novelty(self, novelty: Mapping[str, float], *, place: str) -> None:
        """Store how novel some requests' prompts are, and where that ended."""
        with self._transaction():
            self._db.executemany(
                "UPDATE candidates SET novelty = ? WHERE request_id = ?",
                [(value, request_id) for request_id, value in novelty.items()],
            )
            self._reach("novelty", place)

    def mark(self, reviewed: Sequence[str], leave_out: Mapping[str, Sequence[str]], *, place: str) -> None:
        """Note which candidates a person has let count, leave some out by reason, and where that ended."""
        with self._transaction():
            self._db.executemany(
                "UPDATE candidates SET reviewed = 1 WHERE id = ?", [(each,) for each in reviewed]
            )
            for ids in leave_out.values():
                self._db.executemany("DELETE FROM candidates WHERE id = ?", [(each,) for each in ids])
            self._count({why: len(ids) for why, ids in leave_out.items()})
            self._reach("known", place)

    def pages(self, *, after: str = "", size: int = 500) -> Iterator[list[sqlite3.Row]]:
        """Yield every candidate by id, page by page."""
        while True:
            page = self._db.execute(
                "SELECT * FROM candidates WHERE id > ? ORDER BY id LIMIT ?", (after, size)
            ).fetchall()
            if page:
                yield page
            if len(page) < size:
                return
            after = page[-1]["id"]

    def unranked(self, limit: int) -> list[sqlite3.Row]:
        """Return the requests whose novelty is asked for: one candidate of each, at most so many.

        Which ones, a hash decides (ids are such), so that no time of day is preferred.
        """
        return self._db.execute(
            "SELECT request_id, messages FROM candidates GROUP BY request_id ORDER BY min(id) LIMIT ?",
            (limit,),
        ).fetchall()

    def ordered(self, split: str, *, since: float, before: float) -> Iterator[sqlite3.Row]:
        """Yield candidates of a split and a time in the order in which they are chosen, without their texts.

        What a person has let count comes first, then what is most novel; those of which that is not known
        come last, by their ids.
        """
        yield from self._db.execute(
            "SELECT id, unit, other_unit, key_id, other_key_id, kind, prompt, said, reviewed FROM candidates "
            "WHERE split = ? AND at >= ? AND at < ? "
            "ORDER BY reviewed DESC, novelty IS NULL, novelty DESC, id",
            (split, since, before),
        )

    def both_ways(self, *, size: int = 500) -> Iterator[list[tuple[str, str]]]:
        """Yield pairs of answers to one prompt by their ids, the first liked, the second not; each once.

        They come in pages, however many prompts, or answers to one prompt, there are.
        """
        pairs = self._pairs()
        while page := list(islice(pairs, size)):
            yield page

    def _pairs(self) -> Iterator[tuple[str, str]]:
        prompts = (
            "SELECT prompt FROM candidates AS a WHERE prompt > ? AND kind = 'liked' AND EXISTS (SELECT 1 "
            "FROM candidates AS b WHERE b.prompt = a.prompt AND b.kind = 'disliked') ORDER BY prompt LIMIT 1"
        )
        answers = "SELECT id FROM candidates WHERE prompt = ? AND kind = ? ORDER BY id"
        after = ""
        while (found := self._db.execute(prompts, (after,)).fetchone()) is not None:
            after = found["prompt"]
            liked, disliked = (self._db.execute(answers, (after, kind)) for kind in ("liked", "disliked"))
            for better, worse in zip(liked, disliked, strict=False):
                yield better["id"], worse["id"]

    def rows(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return some candidates by id, as they were stored."""
        marks = ", ".join("?" * len(ids))
        query = f"SELECT {', '.join(_COLUMNS)} FROM candidates WHERE id IN ({marks})"  # noqa: S608 - names of ours
        found = self._db.execute(query, tuple(ids))
        return {row["id"]: dict(row) for row in found}

    def choose(self, ids: Sequence[str], dropped: Mapping[str, int]) -> None:
        """Store which candidates are chosen."""
        with self._transaction():
            self._db.executemany("UPDATE candidates SET chosen = 1 WHERE id = ?", [(each,) for each in ids])
            self._count(dropped)
            self._reach("choose", DONE)

    def chosen(self, *, after: str = "", size: int = 200) -> Iterator[list[sqlite3.Row]]:
        """Yield the chosen candidates by id, page by page, from behind one on."""
        while True:
            page = self._db.execute(
                "SELECT * FROM candidates WHERE chosen = 1 AND id > ? ORDER BY id LIMIT ?", (after, size)
            ).fetchall()
            if page:
                yield page
            if len(page) < size:
                return
            after = page[-1]["id"]

    def reached(self, stage: str, place: str, dropped: Mapping[str, int] | None = None) -> None:
        """Note how far a stage is."""
        with self._transaction():
            self._count(dropped or {})
            self._reach(stage, place)

    def counts(self) -> dict[str, int]:
        """Return what was left out, by reason."""
        return {
            row["reason"]: row["count"] for row in self._db.execute("SELECT * FROM dropped ORDER BY reason")
        }

    def chosen_ids(self) -> list[str]:
        """Return the ids of the chosen candidates, in order."""
        return [row[0] for row in self._db.execute("SELECT id FROM candidates WHERE chosen = 1 ORDER BY id")]

    def _count(self, dropped: Mapping[str, int]) -> None:
        self._db.executemany(
            "INSERT INTO dropped VALUES (?, ?) "
            "ON CONFLICT (reason) DO UPDATE SET count = count + excluded.count",
            [(reason, count) for reason, count in dropped.items() if count],
        )

    def _reach(self, stage: str, place: str) -> None:
        self._db.execute("INSERT OR REPLACE INTO progress VALUES (?, ?)", (stage, place))

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._db)


class _Transaction:
    """A block that is done whole or not at all."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._db.execute("COMMIT" if kind is None else "ROLLBACK")


def _values(row: Mapping[str, Any], prompt: str) -> tuple[Any, ...]:
    texts = {
        "messages": json.dumps(list(row["messages"]), ensure_ascii=False),
        **_keys(prompt, row["answer"]),
    }
    return tuple({**row, **texts}[name] for name in _COLUMNS)


def _keys(prompt: str, answer: str) -> dict[str, str]:
    """Return what tells prompts and answers apart, short enough for an index."""
    return {
        "prompt": sha256(prompt.encode()).hexdigest()[:32],
        "said": sha256(normal_form(answer).encode()).hexdigest()[:16],
    }
