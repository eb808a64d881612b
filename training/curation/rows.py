"""Curated rows as rows to train on and to judge by. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Literal

from gateway.core.curation import CuratedRow, Kind
from gateway.store.golden import GoldenRow
from training.data import rows as data
from training.data.rows import Example, Preference, Rated, Row

Method = Literal["sft", "kto", "dpo"]
KIND_OF: Mapping[Method, data.Kind] = {"sft": "examples", "kto": "rated", "dpo": "preferences"}
WANTED: frozenset[Kind] = frozenset({"demonstration", "liked", "compared"})
"""Kinds whose answer is one that was wanted."""
OTHER = "other_subject"


def method_of(rows: Iterable[CuratedRow], *, least: int) -> Method:
    """Return what rows are for.

    Demonstrations say what is wanted: with half as many as are needed it is supervised training. Else ratings
    both ways are for KTO, and pairs of answers for DPO. Liked answers alone would teach a version what it
    says anyway, and are the last resort.
    """
    count: dict[str, int] = {}
    pairs = 0
    for row in rows:
        count[row.kind] = count.get(row.kind, 0) + 1
        pairs += row.rejected is not None
    liked, disliked = count.get("liked", 0), count.get("disliked", 0)
    shown = count.get("demonstration", 0)
    if 2 * shown >= least:
        return "sft"
    if min(liked, disliked) >= max(1, least // 4) and liked + disliked + shown >= least:
        return "kto"
    return "dpo" if pairs >= least else "sft"


def of_method(row: CuratedRow, method: Method) -> Row | None:
    """Return a curated row as one to train on by a method; None where it is of no use for that."""
    messages = tuple(dict(message) for message in row.messages)
    columns = columns_of(row)
    if method == "sft":
        return (
            Example(messages, row.answer, columns=columns) if row.kind in ("demonstration", "liked") else None
        )
    if method == "kto":
        if row.kind == "compared":
            return None
        return Rated(messages, row.answer, row.kind != "disliked", columns=columns)
    if row.rejected is None or row.rejected == row.answer:
        return None
    return Preference(messages, row.answer, row.rejected, columns=columns | _other(row))


def as_row(row: CuratedRow) -> Row:
    """Return a curated row as the kind of row that it is by itself."""
    methods: tuple[Method, ...] = ("sft", "dpo")
    for method in methods:
        found = of_method(row, method)
        if found is not None:
            return found
    return of_method(row, "kto") or Example(tuple(row.messages), row.answer)  # type: ignore[arg-type]


def to_judge(row: CuratedRow) -> Example | None:
    """Return a held-out row as a prompt with a wanted answer; None where no answer was wanted."""
    if row.kind not in WANTED:
        return None
    return Example(tuple(dict(message) for message in row.messages), row.answer, columns=columns_of(row))


def golden_example(row: GoldenRow) -> Example:
    """Return a golden row as one to judge by. Golden rows are trusted: people chose them."""
    own = {"row_id": row.id, "trusted": "true"}
    more = {name: value for name, value in (("request_id", row.request_id), ("subject", row.unit)) if value}
    return Example(tuple(row.messages), row.answer, columns={**row.slices, **own, **more})


def columns_of(row: CuratedRow) -> dict[str, str]:
    """Return where a row comes from, by what results are told apart, and what is drawn together."""
    found = {
        "row_id": row.id,
        "request_id": row.request_id,
        "at": datetime.fromtimestamp(row.at, UTC).isoformat(timespec="seconds"),
        "trusted": str(row.counts_as_trusted).lower(),
        "kind": row.kind,
        "version": row.adapter,
    }
    return found if row.unit is None else {**found, "subject": row.unit}


def _other(row: CuratedRow) -> dict[str, str]:
    """Return whose the worse answer is, where that is somebody else: who is forgotten is found by it."""
    return {OTHER: row.other_unit} if row.other_unit and row.other_unit != row.unit else {}


def converted(row: Row, method: Method) -> Row | None:
    """Return an old row as the kind that a method trains on; None where it can't be one."""
    if method == "sft":
        return wanted_of(row)
    if method == "kto" and isinstance(row, Example):
        return Rated(row.messages, row.completion, liked=True, line=row.line, columns=row.columns)
    kind = data.ROW_TYPES[KIND_OF[method]]
    return row if isinstance(row, kind) else None


def wanted_of(row: Row) -> Example | None:
    """Return a row as a prompt with the answer that was wanted; None where there is none."""
    match row:
        case Example():
            return row
        case Preference():
            # Without the worse answer, nothing of the row is the other subject's.
            columns = {name: value for name, value in row.columns.items() if name != OTHER}
            return Example(row.messages, row.chosen, row.line, columns)
        case Rated(liked=True):
            return Example(row.messages, row.completion, row.line, row.columns)
        case _:
            return None


def numbered(rows: Sequence[Any]) -> list[Any]:
    """Return rows with their places as lines."""
    return [replace(row, line=number) for number, row in enumerate(rows, start=1)]
