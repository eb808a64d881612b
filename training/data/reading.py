"""From a source that the user names to rows of one kind: files, data sets of a hub, recorded traffic.

A source is read whole or not at all: every fault is named by file, line and field, and what could be read in
two ways is refused with the option that decides.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from training.data.faults import Fault, Faults, kind_of
from training.data.formats import ENDINGS, Limits, raw_rows
from training.data.parsing import Columns, parse
from training.data.recognise import KIND_OF, Form, recognise
from training.data.rows import DataError, Dataset, Example, Kind, Row
from training.data.texts import texts

if TYPE_CHECKING:
    from training.data.traffic import Traffic

__all__ = ["Columns", "read", "read_dataset"]

TRAFFIC = "turnout:"
HUB = "hf://"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FORM_OF_COLUMNS: dict[Kind, Form] = {
    "examples": "columns",
    "preferences": "preference",
    "rated": "rated",
    "texts": "text",
}


def read_dataset(
    source: str,
    *,
    columns: Columns | None = None,
    kind: Kind | None = None,
    form: Form | None = None,
    traffic: "Traffic | None" = None,
    limits: Limits | None = None,
) -> Dataset:
    """Return the rows of a source, in its order.

    A source is a file, a folder with a saved data set, `hf://ORG/NAME`, an id `ORG/NAME` of a hub where no
    file has that name, or `turnout:ROUTE`, whose stores and choices are `traffic`. With `columns` (by their
    names, not for their weight alone) the row's parts stand where they say; otherwise the form is recognised
    by the fields of all rows, unless `form` says it, among the forms of `kind`, if one is given.

    Raises:
        DataError: the source is missing, empty, beyond the limits or of two forms, or rows are faulty (the
            first five are named).
        StoreUnavailable: the recorded traffic can't be read.
        OSError: the file or the hub can't be read.
    """
    if source.startswith(TRAFFIC):
        from training.data.traffic import recorded  # noqa: PLC0415 - brings the database

        if traffic is None:
            raise DataError(f"{source} is recorded traffic, and this command reads files only")
        return recorded(source, traffic, kind=kind)
    bounds = limits or Limits()
    found = _objects(_rows_of(source, bounds), source)
    chosen = form or _named_form(columns, kind) or recognise(found, source, kind=kind)
    if kind is not None and KIND_OF[chosen] != kind:
        raise DataError(f"--format {chosen} gives {KIND_OF[chosen]}, and --kind asks for {kind}")
    rows = _parsed(found, source, chosen, columns or Columns(), bounds)
    return Dataset(KIND_OF[chosen], rows, source)


def read(path: Path, columns: Columns | None = None) -> list[Example]:
    """Return the rows of a file that are prompts with answers, in order.

    Raises:
        DataError: the file can't be read, or its rows are of another kind.
    """
    return cast("list[Example]", list(read_dataset(str(path), columns=columns, kind="examples").rows))


def _rows_of(source: str, limits: Limits) -> Iterable[tuple[int, Any]]:
    path = Path(source)
    # `data/rows.jsonl` that is not there is a slip, and nothing to ask a hub for.
    may_be_id = not path.exists() and path.suffix.lower() not in ENDINGS and _HUB_ID.fullmatch(source)
    if source.startswith(HUB) or path.is_dir() or may_be_id:
        from training.data.hub import hub_rows  # noqa: PLC0415 - brings the library of data sets

        return hub_rows(source, limits)
    return raw_rows(path, limits)


def _objects(rows: Iterable[tuple[int, Any]], source: str) -> list[tuple[int, dict[str, Any]]]:
    faults = Faults(source)
    found: list[tuple[int, dict[str, Any]]] = []
    for line, row in rows:
        if isinstance(row, dict):
            found.append((line, row))
        else:
            faults.add(line, Fault(f"the line is {kind_of(row)}, and must be a JSON object"))
    faults.check()
    if not found:
        raise DataError(f"{source} holds no rows")
    return found


def _named_form(columns: Columns | None, kind: Kind | None) -> Form | None:
    """Return the form that follows from columns being named; none when only the weight's is."""
    if columns is None or columns == Columns(weight=columns.weight):
        return None
    return _FORM_OF_COLUMNS[kind or "examples"]


def _parsed(
    found: list[tuple[int, dict[str, Any]]], source: str, form: Form, columns: Columns, limits: Limits
) -> tuple[Row, ...]:
    """Return the rows. The raw ones are let go one by one, since both together may be twice the file."""
    faults = Faults(source)
    rows: list[Row] = []
    found.reverse()
    while found:
        line, raw = found.pop()
        try:
            row = parse(raw, form, line, columns)
            size = sum(map(len, texts(row)))
            if size > limits.line_bytes:
                raise Fault(f"the row has {size:,} characters, and no model reads that much")  # noqa: TRY301 - as the others
            rows.append(row)
        except Fault as fault:
            faults.add(line, fault)
    faults.check()
    return tuple(rows)
