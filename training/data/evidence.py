"""What came back on recorded answers, and the rows to train on that follow from it. Pure."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core.routes import DEMONSTRATION
from gateway.core.signals import IMPLICIT
from gateway.store.shadows import Pair
from training.data.normalise import normal_form
from training.data.rows import DataError, Example, Kind, Message, Preference, Rated, Row, as_text

Value = bool | float | str


@dataclass(frozen=True, slots=True)
class Answered:
    """One prompt with one answer (empty: none was captured), the request's id, and its further fields."""

    id: str
    messages: tuple[Message, ...]
    answer: str
    columns: Mapping[str, str]

    @property
    def prompt(self) -> str:
        """The prompt's normal form."""
        return normal_form(as_text(self.messages))


@dataclass(frozen=True, slots=True)
class Evidence:
    """The recorded answers of one source, oldest first, and what was said of them.

    `said` has the last value by request and metric. `metric` is the one to judge by, or None for the only
    bool there is; `at_least` says from which value on a number is liked; of the metrics in `lower` less is
    better. `pairs` are answers of shadows beside their clients'.
    """

    source: str
    answered: Sequence[Answered]
    said: Mapping[tuple[str, str], Value]
    pairs: Sequence[Pair] = ()
    metric: str | None = None
    at_least: float | None = None
    lower: frozenset[str] = frozenset()

    def rows(self, kind: Kind | None) -> tuple[Kind, tuple[Row, ...]]:
        """Return the kind that is wanted, or the only one that there is evidence for, with its rows.

        A demonstration is an example, and beside the answer that it corrects a preference; where nothing else
        speaks for preferences, examples are meant.

        Raises:
            DataError: there is nothing, or several kinds or metrics come into question.
        """
        examples = list(self._demonstrations())
        metric = self._metric(needed=kind in ("rated", "preferences") or (kind is None and not examples))
        found: dict[Kind, list[Row]] = {
            "examples": list(examples),
            "rated": list(self._rated(metric, wanted=kind in (None, "rated"))) if metric else [],
            "preferences": [*self._corrections(), *(self._compared(metric) if metric else ())],
        }
        counts = ", ".join(f"{len(rows)} {each}" for each, rows in found.items())
        if kind is not None:
            if not found[kind]:
                raise DataError(f"{self.source} has no {kind}: {counts}")
            return kind, _numbered(found[kind])
        some = [each for each, rows in found.items() if rows]
        if some == ["examples", "preferences"] and metric is None:
            some = ["examples"]
        if not some:
            raise DataError(
                f"{self.source} has nothing to train on: {len(self.answered)} requests with captured texts, "
                "and no demonstration, rating or comparison of them. Feedback is sent to /v1/feedback; texts "
                "are captured by the route's capture policy"
            )
        if len(some) > 1:
            raise DataError(
                f"{self.source} has evidence of several kinds: {counts}. Say which to train on: "
                f"{' or '.join(f'--kind {each}' for each in some)}"
            )
        return some[0], _numbered(found[some[0]])

    def _demonstrations(self) -> Iterator[Example]:
        for one in self.answered:
            if shown := self._shown(one):
                yield Example(one.messages, shown, columns=one.columns)

    def _corrections(self) -> Iterator[Preference]:
        for one in self.answered:
            shown = self._shown(one)
            if shown and one.answer and shown != one.answer:
                yield Preference(one.messages, shown, one.answer, columns=one.columns)

    def _shown(self, one: Answered) -> str:
        value = self.said.get((one.id, DEMONSTRATION))
        return value.strip() if isinstance(value, str) else ""

    def _metric(self, *, needed: bool) -> str | None:
        if self.metric is not None:
            return self.metric
        known = {one.id for one in self.answered}
        there = sorted(
            {
                metric
                for (request, metric), value in self.said.items()
                if isinstance(value, bool) and metric not in IMPLICIT and request in known
            }
        )
        if len(there) > 1 and needed:
            raise DataError(f"{self.source} is rated by {', '.join(there)}; say which with --metric")
        return there[0] if len(there) == 1 else None

    def _rated(self, metric: str, *, wanted: bool) -> Iterator[Rated]:
        for one in self.answered:
            value = self.said.get((one.id, metric))
            if value is not None and one.answer and (wanted or isinstance(value, bool)):
                yield Rated(one.messages, one.answer, self._liked(value, metric), columns=one.columns)

    def _compared(self, metric: str) -> Iterator[Preference]:
        """Yield pairs of answers to one prompt, each answer in one pair at most, and those of shadows."""
        by_prompt: dict[str, list[tuple[float, Answered]]] = defaultdict(list)
        by_id = {one.id: one for one in self.answered}
        for one in self.answered:
            value = self.said.get((one.id, metric))
            if value is not None and one.answer:
                by_prompt[one.prompt].append((self._worth(value, metric), one))
        for rated in by_prompt.values():
            yield from _best_before_worst(rated)
        for pair in self.pairs:
            client, said = by_id.get(pair.id), (pair.shadow_answer or "").strip()
            mine, theirs = self.said.get((pair.id, metric)), self.said.get((pair.shadow_id, metric))
            if client is None or not client.answer or not said or mine is None or theirs is None:
                continue
            shadow = replace(client, id=pair.shadow_id, answer=said)
            both = [(self._worth(mine, metric), client), (self._worth(theirs, metric), shadow)]
            yield from _best_before_worst(both)

    def _liked(self, value: Value, metric: str) -> bool:
        if not isinstance(value, bool) and (isinstance(value, str) or self.at_least is None):
            what = "a text" if isinstance(value, str) else "a number"
            mend = (
                "true, false and numbers rate"
                if isinstance(value, str)
                else "say from where on with --at-least"
            )
            raise DataError(
                f"{self.source}: {metric} is {what} ({value!r:.40}), not liked or disliked; {mend}"
            )
        liked = value if isinstance(value, bool) else value >= (self.at_least or 0.0)
        return liked != (metric in self.lower)

    def _worth(self, value: Value, metric: str) -> float:
        worth = float(self._liked(value, metric)) if isinstance(value, bool | str) else value
        return -worth if metric in self.lower and not isinstance(value, bool) else worth


def _best_before_worst(rated: Sequence[tuple[float, Answered]]) -> Iterator[Preference]:
    """Yield the best with the worst, the second best with the second worst, …, while they differ."""
    ordered = sorted(rated, key=lambda each: -each[0])
    for (better, first), (worse, second) in zip(ordered, reversed(ordered), strict=True):
        if better <= worse:
            return
        if first.answer != second.answer:
            yield Preference(first.messages, first.answer, second.answer, columns=_of_both(first, second))


def _of_both(first: Answered, second: Answered) -> Mapping[str, str]:
    """Return the better answer's columns with the worse one's subject: who is forgotten is found by it."""
    other = second.columns.get("unit")
    differs = other is not None and other != first.columns.get("unit")
    return {**first.columns, "other_unit": other} if other and differs else first.columns


def _numbered(rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(replace(row, line=number) for number, row in enumerate(rows, start=1))
