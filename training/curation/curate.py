"""One curation from an order to the files of a run; run again, it goes on where it was stopped.

RUN/.curation/   the plan, the policy that it began with, and the candidates on their way, not yet masked
RUN/train.jsonl, RUN/held_out_new.jsonl, RUN/held_out_old.jsonl, RUN/golden.jsonl
RUN/curate.json  what came of it, written last
"""

import contextlib
import errno
import fcntl
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gateway.core.curation import CuratedRow, Part
from gateway.core.loop import LoopPolicy
from gateway.core.requests import MAX_TEXT_CHARS
from gateway.store.control import ControlStore
from gateway.store.curation import RowsGone
from gateway.store.golden import GoldenRow
from gateway.store.requests import Requests
from gateway.store.run_files import WORKBOOK, remove_workbook
from training.curation import gather as gathering
from training.curation.decide import Chosen, Rows, decide
from training.curation.gather import Sources
from training.curation.novelty import Prompts, reference_of
from training.curation.plan import Plan, frozen_policy, plan_of
from training.curation.propose import propose
from training.curation.replay import Old, manifest_of, old_rows
from training.curation.rows import golden_example, to_judge
from training.curation.workbook import DONE, Workbook
from training.data import personal
from training.data.embedding import EmbeddingUnavailable
from training.data.rows import Row
from training.data.traffic import open_store
from training.data.writing import document
from training.publishing.lineage import fingerprint
from training.runs.folder import replace_file

WORK = WORKBOOK.parent
RESULT = "curate.json"
ATTEMPTS = 3
"""How often rows are chosen anew when some were forgotten meanwhile."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is curated for which run, where it goes, and where the stores are.

    Texts of `max_text_chars` characters were cut when they were recorded.
    """

    route: str
    run: str
    out: Path
    policy: LoopPolicy
    state_dir: Path
    control_url: str
    requests_url: str
    ner_model: str | None = None
    max_text_chars: int = MAX_TEXT_CHARS


def curate(order: Order, *, say: Callable[[str], None] = lambda _: None) -> dict[str, Any]:
    """Choose the run's rows, write its files, and return what `curate.json` says.

    Raises:
        DataError: the route is not there, or the folder holds another run's rows.
        StoreUnavailable: a database is missing or does not answer.
        OSError: the folder can't be written, or another process works in it.
    """
    work = order.out / WORK
    work.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (
        _locked(work / "lock"),
        closing(open_store(order.control_url, "control")) as control,
        closing(open_store(order.requests_url, "requests")) as database,
    ):
        sources = Sources(ControlStore(control), Requests(database))
        if (known := _finished(order.out)) is not None:
            return known
        policy = frozen_policy(work, order.policy)
        plan = plan_of(
            work,
            route=order.route,
            run=order.run,
            store=sources.store,
            max_text_chars=order.max_text_chars,
        )
        return _Curation(order, plan, policy, sources, say).work()


class _Curation:
    """The work on one run."""

    def __init__(
        self, order: Order, plan: Plan, policy: LoopPolicy, sources: Sources, say: Callable[[str], None]
    ) -> None:
        self._order, self._plan, self._policy = order, plan, policy
        self._sources, self._say = sources, say
        self._store = sources.store
        self._notes: list[str] = []

    def work(self) -> dict[str, Any]:
        old = old_rows(self._store, self._plan.champion, state_dir=self._order.state_dir)
        self._notes.append(old.note)
        self._say(old.note)
        ids, dropped = self._proposed(old)
        for _ in range(ATTEMPTS):
            golden = _Golden.of(self._store, self._plan.route)
            chosen = decide(self._rows(ids, old, golden), self._policy)
            result = self._result(chosen, Counter(dropped) + chosen.dropped, ids)
            try:
                self._use(chosen, result)
                return self._finish(chosen, golden, result)
            except RowsGone as error:
                self._say(f"{error}; the rows are chosen anew")
        raise OSError(errno.EAGAIN, "rows are being removed all the time; try again when that is over")

    def _proposed(self, old: Old) -> tuple[list[str], dict[str, int]]:
        """Return the ids of the rows that this run may use, and what was left out, by reason."""
        kept = self._order.out / WORK / "proposed.json"
        if kept.is_file():
            found = json.loads(kept.read_text(encoding="utf-8"))
            self._notes = found["notes"]
            remove_workbook(self._order.out)
            return found["ids"], found["dropped"]
        with Workbook(self._order.out / WORKBOOK) as book:
            self._say("reading the rated requests")
            gathering.gather(self._plan, self._policy, self._sources, book)
            gathering.compare(self._plan, book)
            gathering.leave_out_known(self._plan, self._sources, book, self._learned(old))
            self._rank(book)
            gathering.choose(self._plan, self._policy, book)
            self._say("masking and proposing rows")
            propose(self._plan, self._store, book, personal.finder(self._order.ner_model))
            ids, dropped = book.chosen_ids(), book.counts()
        replace_file(kept, json.dumps({"ids": ids, "dropped": dropped, "notes": self._notes}) + "\n")
        remove_workbook(self._order.out)
        return ids, dropped

    def _learned(self, old: Old) -> Callable[[Sequence[str]], set[str]]:
        """Return what says which rows the champion's run, and the runs before it, have used."""
        runs: list[str] = []
        label: str | None = self._plan.champion
        while label is not None and len(runs) < 1000:
            manifest = manifest_of(self._store, label)
            lineage = manifest.lineage if manifest else None
            if lineage is None or lineage.loop_run is None or lineage.loop_run in runs:
                break
            runs.append(lineage.loop_run)
            label = (lineage.parent or "").partition(" ")[0] or None
        if old.run is not None and old.run not in runs:
            runs.append(old.run)

        def learned(ids: Sequence[str]) -> set[str]:
            return {each for run in runs for each in self._store.curation.used(run, ids)}

        return learned

    def _rank(self, book: Workbook) -> None:
        manifest = manifest_of(self._store, self._plan.champion)
        lineage = manifest.lineage if manifest else None
        reference = reference_of(lineage.embedding_sample if lineage else None)
        if reference is None:
            self._notes.append("rows are not ranked by novelty: the champion's manifest has no embeddings")
            book.reached("novelty", DONE)
            return
        vectors = Prompts(self._sources.requests, dimensions=reference.shape[1])
        try:
            gathering.rank(book, reference, vectors)
        except EmbeddingUnavailable as error:
            self._notes.append(f"rows are not ranked by novelty: {error}")
            book.reached("novelty", DONE)

    def _rows(self, ids: Sequence[str], old: Old, golden: "_Golden") -> Rows:
        mine = self._store.curation.many(ids)
        shown = {row.request_id: row.id for row in mine.values() if row.kind == "demonstration"}
        judged = [
            made
            for row in self._held_out_before()
            if row.id not in mine
            and row.state != "rejected"
            and not _corrected(row, shown)
            and (made := to_judge(row))
        ]
        return Rows(
            proposed=[self._trusted(row) for row in mine.values()],
            judged=judged,
            golden=[golden_example(row) for row in golden.rows],
            old=self._there(old.train, shown),
            old_held_out=self._there(old.held_out, shown),
            new_since=self._plan.new_since,
        )

    def _trusted(self, row: CuratedRow) -> CuratedRow:
        """Return a row with the trust that the policy has now: keys come to be trusted, and cease to be."""
        trusted = row.key_id in self._policy.trusted_keys and (row.kind != "compared" or row.trusted)
        return replace(row, trusted=trusted)

    def _there(self, rows: Sequence[Row], shown: Mapping[str, str]) -> list[Row]:
        """Return old rows without those that were curated once and are gone since, rejected or corrected."""
        known = self._store.curation.many([row_id for row in rows if (row_id := _curated_id(row))])
        gone = {each for each, row in known.items() if row.state == "rejected" or _corrected(row, shown)}
        return [
            row for row in rows if (each := _curated_id(row)) is None or (each in known and each not in gone)
        ]

    def _held_out_before(self) -> Iterator[CuratedRow]:
        after = ""
        while page := self._store.curation.page(self._plan.route, split="held_out", after=after):
            yield from page
            after = page[-1].id

    def _result(self, chosen: Chosen, dropped: Counter[str], ids: Sequence[str]) -> dict[str, Any]:
        least = self._policy.min_new_examples
        enough = chosen.new >= least
        outcome = "ready" if enough else "waiting_review" if chosen.waiting else "too_little_data"
        few = f"{chosen.new} new rows, and {least} are needed"
        reasons = {
            "ready": None,
            "waiting_review": f"{few}; {chosen.waiting} rows wait for a person: turnout loop review",
            "too_little_data": few,
        }
        return {
            "outcome": outcome,
            "method": chosen.method,
            "rows": len(chosen.train),
            "new_rows": chosen.new,
            "held_out_new": len(chosen.held_out_new),
            "trusted_held_out_new": chosen.trusted_held_out_new,
            "held_out_old": len(chosen.held_out_old),
            "golden": 0,
            "waiting_review": chosen.waiting,
            "proposed": len(ids),
            "fingerprint": fingerprint(chosen.train),
            "dropped": {name: count for name, count in sorted(dropped.items()) if count},
            "reason": reasons[outcome],
            "notes": self._notes,
        }

    def _use(self, chosen: Chosen, result: dict[str, Any]) -> None:
        """Record which curated rows the run uses, if it is ready to: none of them may be gone."""
        uses = self._uses(chosen) if result["outcome"] == "ready" else {}
        self._store.curation.use(self._order.run, uses)

    def _require_there(self, chosen: Chosen, golden: "_Golden", result: dict[str, Any]) -> None:
        """Refuse files with rows that are gone, whatever came of the run: also one that waits has files.

        Raises:
            RowsGone: some are.
        """
        used, after = self._uses(chosen), ""
        there = 0 if result["outcome"] == "ready" else len(self._store.curation.many([*used]))
        while page := self._store.curation.uses(self._order.run, after=after):
            there += len(page)
            after = page[-1][0]
        known = {row.id for row in _golden(self._store, self._plan.route)}
        if there != len(used) or not known.issuperset(row.id for row in golden.current):
            raise RowsGone("rows were removed while they were written")

    def _uses(self, chosen: Chosen) -> dict[str, Part]:
        parts: list[tuple[Part, Sequence[Row]]] = [
            ("held_out_old", chosen.held_out_old),
            ("held_out_new", chosen.held_out_new),
            ("train", chosen.train),
        ]
        return {row_id: part for part, rows in parts for row in rows if (row_id := _curated_id(row))}

    def _finish(self, chosen: Chosen, golden: "_Golden", result: dict[str, Any]) -> dict[str, Any]:
        result["golden"] = len(golden.current)
        out = self._order.out
        files: dict[str, Sequence[Row]] = {
            "train": chosen.train,
            "held_out_new": chosen.held_out_new,
            "held_out_old": chosen.held_out_old,
            "golden": [golden_example(row) for row in golden.current],
        }
        for name, found in files.items():
            replace_file(out / f"{name}.jsonl", "".join(_line(row) for row in found))
        # Who is forgotten from now on is taken out of these files; who was before, is in them no more.
        self._require_there(chosen, golden, result)
        if golden.current and result["outcome"] == "ready" and not self._policy.dry_run:
            number = golden.current[0].number
            uses = self._store.golden.use(self._plan.route, number, run=self._order.run)
            if uses >= self._policy.golden_uses:
                result["notes"] = [*result["notes"], _rotate(self._plan.route, uses)]
        replace_file(out / RESULT, json.dumps(result, indent=1) + "\n")
        return result


@dataclass(frozen=True, slots=True)
class _Golden:
    """The rows of every golden set of a route, none of which is trained on, and those that are judged by.

    What is added while a run chooses its rows is judged by from the next run on: of what this one trains on,
    nothing was left out for it.
    """

    rows: Sequence[GoldenRow]
    current: Sequence[GoldenRow]

    @classmethod
    def of(cls, store: ControlStore, route: str) -> "_Golden":
        """Read them."""
        known = store.golden.current(route)
        rows = _golden(store, route)
        return cls(rows, [row for row in rows if known is not None and row.number == known.number])


def _golden(store: ControlStore, route: str) -> list[GoldenRow]:
    found: list[GoldenRow] = []
    after = ""
    while page := store.golden.rows(route, after=after):
        found += page
        after = page[-1].id
    return found


def _curated_id(row: Row) -> str | None:
    """Return the id of the curated row that a row is; None for rows from elsewhere."""
    found = row.columns.get("row_id", "")
    return found if found.startswith("row-") else None


def _corrected(row: CuratedRow, shown: Mapping[str, str]) -> bool:
    """Whether another demonstration holds for a row's request. `shown`: which row each request has now."""
    return row.kind == "demonstration" and shown.get(row.request_id, row.id) != row.id


def _rotate(route: str, uses: int) -> str:
    return (
        f"the golden set of {route} was used {uses} times: put a new one in its place "
        f"(turnout data golden rotate {route})"
    )


def _line(row: Row) -> str:
    return json.dumps(document(row), ensure_ascii=False) + "\n"


def _finished(out: Path) -> dict[str, Any] | None:
    """Return the result of a run whose rows are ready: they stay what they are."""
    try:
        found = json.loads((out / RESULT).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) and found.get("outcome") == "ready" else None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise OSError(errno.EBUSY, "another process curates this run", str(path.parent.parent)) from error
        yield
