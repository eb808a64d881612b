"""What the champion was trained on and judged by, where that can be found again."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.manifest import Lineage, Manifest
from gateway.core.refs import BASE, VersionRef
from gateway.store.control import ControlStore
from training.curation.rows import as_row
from training.data.prepare import prepare
from training.data.reading import TRAFFIC, read_dataset
from training.data.rows import Row
from training.runs.order import Order
from training.runs.sources import reading_of

if TYPE_CHECKING:
    from gateway.core.curation import CuratedRow


@dataclass(frozen=True, slots=True)
class Old:
    """The rows that a version was trained on, and those it was judged by; `note` says where from.

    `run` is the run of the loop that made it, if one did.
    """

    train: tuple[Row, ...]
    held_out: tuple[Row, ...]
    note: str
    run: str | None = None


def manifest_of(store: ControlStore, label: str) -> Manifest | None:
    """Return a version's manifest; None for the base model, and for what is not there."""
    ref = VersionRef.parse(label)
    row = None if ref is None else store.versions.get(ref)
    return None if row is None else Manifest.model_validate(row.manifest)


def old_rows(store: ControlStore, label: str, *, state_dir: Path) -> Old:
    """Return what a version learned from: its run's own files or rows, or the file that lineage names."""
    if label == BASE:
        return Old((), (), "the champion is the base model: there is nothing to replay")
    manifest = manifest_of(store, label)
    lineage = manifest.lineage if manifest else None
    if lineage is None:
        return Old((), (), f"{label} has no lineage: what it was trained on is not known, and not replayed")
    if lineage.loop_run is not None:
        return _of_run(store, label, lineage.loop_run, state_dir)
    return _of_file(label, lineage, state_dir)


def _of_run(store: ControlStore, label: str, run: str, state_dir: Path) -> Old:
    folder = state_dir / "loop" / run
    train = _read(folder / "train.jsonl")
    if train:
        held_out = [row for name in ("new", "old") for row in _read(folder / f"held_out_{name}.jsonl")]
        return Old(tuple(train), tuple(held_out), f"replayed from the rows of run {run}", run)
    parts: dict[str, list[CuratedRow]] = {}
    after = ""
    while page := store.curation.uses(run, after=after):
        after = page[-1][0]
        known = store.curation.many([each for each, _ in page])
        for each, part in page:
            if each in known:
                parts.setdefault("train" if part == "train" else "held_out", []).append(known[each])
    rows = {part: tuple(as_row(row) for row in found) for part, found in parts.items()}
    note = f"replayed from the curated rows of run {run}" if rows.get("train") else _gone(label, f"run {run}")
    return Old(rows.get("train", ()), rows.get("held_out", ()), note, run)


def _of_file(label: str, lineage: Lineage, state_dir: Path) -> Old:
    """Return the rows of the file that the version was trained from, split as then, if it is the same."""
    order = order_in(lineage.command)
    source = "" if order is None else str(order.source or "")
    places = [Path(source), state_dir.parent / source]
    path = next((place for place in places if place.is_file()), None)
    if order is None or path is None or source.startswith(TRAFFIC):
        return Old((), (), _gone(label, lineage.data_source))
    try:
        found = prepare(str(path), reading_of(replace(order, source=str(path), embeddings=False)))
    except (ValueError, OSError) as error:
        return Old((), (), f"{_gone(label, lineage.data_source)} ({error})")
    if found.splits is None or found.report.fingerprint != lineage.data_fingerprint:
        return Old((), (), f"{path.name} is not what {label} was trained from any more: nothing is replayed")
    return Old(found.splits.train, found.splits.test, f"replayed from {path.name}")


def order_in(command: str) -> Order | None:
    """Return the order that a command `turnout train …` gave; None where it is none."""
    from typer.main import get_command  # noqa: PLC0415 - the command is needed for such parents alone

    from training.cli import app  # noqa: PLC0415 - same

    try:
        words = shlex.split(command)
    except ValueError:
        return None
    if words[:2] != ["turnout", "train"]:
        return None
    try:
        given = get_command(app).make_context("train", words[2:], resilient_parsing=True).params
        names = {field.name for field in fields(Order)}
        return Order(**{name: value for name, value in given.items() if name in names and value is not None})
    except Exception:  # noqa: BLE001 - a command of another release: whatever the parser raises on it
        return None


def _read(path: Path) -> Sequence[Row]:
    if not path.is_file() or not path.read_bytes().strip():
        return ()
    return read_dataset(str(path)).rows


def _gone(label: str, what: str) -> str:
    return f"what {label} was trained on ({what}) is not here any more: nothing of it is replayed"
