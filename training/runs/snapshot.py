"""The rows of a run as a file: what a resumed run, another process or another machine trains on.

Recorded traffic goes on and files are edited; a run that was killed must go on with the rows it began with.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from training.data.rows import ROW_TYPES, DataError, Kind, Row
from training.data.splits import Splits

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Rows of one kind by split."""

    kind: Kind
    splits: Splits[Row]

    def text(self) -> str:
        """Return the rows as JSON lines, each with its split; the first line says the kind."""
        return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield json.dumps({"kind": self.kind})
        for split in SPLITS:
            for row in getattr(self.splits, split):
                yield json.dumps({"split": split, **row_document(row)}, ensure_ascii=False)


def snapshot_of(text: str) -> Snapshot:
    """Return the rows that a file holds.

    Raises:
        DataError: it was cut, or is none.
    """
    try:
        head, *lines = text.split("\n")[:-1]
        kind: Kind = json.loads(head)["kind"]
        of_kind = ROW_TYPES[kind]
        found: dict[str, list[Row]] = {split: [] for split in SPLITS}
        for line in lines:
            document = json.loads(line)
            found[document.pop("split")].append(row_of(document, of_kind))
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"the run's rows can't be read: {error}") from error
    return Snapshot(kind, Splits(tuple(found["train"]), tuple(found["validation"]), tuple(found["test"])))


def row_document(row: Row) -> dict[str, Any]:
    """Return a row as JSON values."""
    found = {field.name: getattr(row, field.name) for field in fields(row)}
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in found.items()}


def row_of(document: Mapping[str, Any], kind: type[Row]) -> Row:
    """Return the row that JSON values describe."""
    values = dict(document)
    if "messages" in values:
        values["messages"] = tuple(values["messages"])
    return kind(**values)


def answers(rows: Iterable[Row]) -> list[str]:
    """Return the texts that a model learns to write."""
    return [getattr(row, "completion", None) or getattr(row, "chosen", None) or row.key for row in rows]
