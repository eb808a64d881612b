"""Writes the reports that looks owe, and notes where they lie.

A look only says that a report is due, in its own transaction; what is written here comes after it. A decision
never waits for a plot, and a process that ends in between owes the report still.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from gateway.core.refs import VersionRef
from gateway.store.control import ControlStore
from gateway.store.requests import Requests
from gateway.store.traffic import Period, Watched
from gateway.store.watches import WatchRow
from monitoring.permutation import FloatArray
from monitoring.report import ReportUnavailable
from monitoring.watch import columns, figures, plots, topics
from monitoring.watch.columns import Habits, Languages
from monitoring.watch.coverage import coverage, sample_of
from monitoring.watch.options import WatchOptions
from monitoring.watch.pages import Contents, Example, write_pages
from monitoring.watch.plots import Drawn, Table
from monitoring.watch.vectors import VectorArray, Vectors

log = logging.getLogger(__name__)

WORKSPACE = "workspace"
_LEAST_ROWS = 20


class Reporter:
    """Writes reports into `folder/ROUTE`, and Evidently's into its workspace in `folder/workspace`."""

    def __init__(
        self,
        control: ControlStore,
        requests: Requests,
        vectors: Vectors,
        *,
        folder: Path,
        options: WatchOptions,
        languages: Languages,
    ) -> None:
        self._control = control
        self._requests = requests
        self._vectors = vectors
        self._folder = folder
        self._options = options
        self._languages = languages

    def write_owed(self, route: str, *, epoch: int) -> None:
        """Write the report that the last look at a route owes, if it owes one.

        Raises:
            LeaseLost, StoreUnavailable: the store refuses or can't be reached; the report is owed still.
            EmbeddingUnavailable: the embedding model is missing.
        """
        row = self._control.watches.get(route)
        if row is None or not row.figures.get("owed"):
            return
        owed = row.figures["owed"]
        found = next((each for each in self._control.drift.rows(route) if each.at == owed["at"]), None)
        paths = note = None
        if found is not None:
            try:
                paths = self._write(route, row.adapter, found.figures, owed)
            except (ReportUnavailable, OSError) as error:
                note = f"The report could not be written: {error}"
            except Exception as error:
                # Somebody else's plots may fail on any data; that must not stop the watch.
                log.exception("the report of %s failed", route)
                note = f"The report failed: {error!r}"[:500]
        after = {**row.figures, "owed": None, "reported_at": owed["at"]}
        if note is not None:
            log.warning("%s: %s", route, note)
            after["notes"] = [*after.get("notes", ()), note]
        self._control.watches.commit(
            replace(row, looks=row.looks + 1, figures=after),
            epoch=epoch,
            report=None if paths is None else (owed["at"], str(paths.html), str(paths.json)),
        )

    def _write(self, route: str, adapter: str | None, found: dict[str, Any], owed: dict[str, Any]) -> Any:
        before, now = self._rows(Period(*owed["reference"])), self._rows(Period(*owed["current"]))
        drawn: Drawn | None = None
        examples: Sequence[Example] = ()
        seen: VectorArray | None = None
        if min(len(before), len(now)) >= _LEAST_ROWS:
            known = columns.habits(before, languages=self._languages)
            then, seen = self._vectors.of(before), self._vectors.of(now)
            novel = topics.novelty(then, seen)
            reference = self._table(before, known, novel[0], learning=True)
            current = self._table(now, known, novel[1])
            examples = [
                Example(
                    topic.words,
                    topic.share,
                    [(now[place].row.id, topics.shown(now[place].row.prompt or "")) for place in topic.rows],
                )
                for topic in topics.topics(then, seen, current.texts, known=reference.texts)
            ]
            drawn = plots.draw(
                route,
                reference,
                current,
                workspace=self._folder / WORKSPACE,
                key=str(owed["at"]),
                at=float(owed["at"]),
                keep=self._options.keep_reports,
            )
        contents = Contents(
            route=route,
            at=float(owed["at"]),
            sentence=figures.sentence(route, found),
            figures=found,
            topics=examples,
            coverage=self._coverage(adapter, seen),
        )
        return write_pages(self._folder / route, contents, drawn, keep=self._options.keep_reports)

    def _rows(self, period: Period) -> list[Watched]:
        traffic = self._requests.traffic
        return traffic.rows(traffic.sample(period, limit=self._options.report_rows))

    def _table(
        self, rows: Sequence[Watched], known: Habits, novel: FloatArray, *, learning: bool = False
    ) -> Table:
        texts = [each.row.prompt or "" for each in rows]
        spoken = self._languages(texts)
        return Table(
            numbers={
                **columns.numbers(rows, known, languages=lambda _: spoken, learning=learning),
                **columns.signals(rows),
                "novelty": novel,
            },
            categories={
                "language": [language or "unknown" for language in spoken],
                "finish_reason": [each.row.finish_reason or f"status_{each.row.status}" for each in rows],
            },
            texts=texts,
        )

    def _coverage(self, adapter: str | None, seen: VectorArray | None) -> dict[str, Any] | None:
        ref = VersionRef.parse(adapter or "")
        version = None if ref is None else self._control.versions.get(ref)
        if version is None or seen is None:
            return None
        training = sample_of(version.manifest, model=self._vectors.model)
        found = None if training is None else coverage(training, seen)
        return None if found is None else found.document()


def owed(row: WatchRow, found: dict[str, Any], *, at: float, options: WatchOptions) -> dict[str, Any] | None:
    """Return the report that a look with these figures owes, or None.

    A change of severity to `watch` or `retrain` owes one, and the passing of time does. `row` is the route's
    before the look. The current rows are those since the change, where the detector says when that was.
    """
    window = found.get("windows", {}).get("current")
    if window is None:
        return row.figures.get("owed")
    loud = found["severity"] in ("watch", "retrain")
    new = loud and found["severity"] != row.figures.get("severity")
    last = row.figures.get("reported_at")
    due = last is None or at - last >= options.report_every_s
    if not (new or (due and found["rows"]["current"] >= _LEAST_ROWS)):
        return row.figures.get("owed")
    reference = found["windows"]["reference"]
    since = max(window["since"], found["change_at"] or window["since"])
    return {
        "at": at,
        "reference": [row.route, reference["since"], reference["until"], reference["adapter"]],
        "current": [row.route, since, window["until"], row.adapter],
    }
