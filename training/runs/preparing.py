"""The first stage of a run: from an order to rows by split, settings, base model and parent, all checked."""

import importlib.util
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.base import folder_of, identify
from adapters.manifest import BaseIdentity, EmbeddingSample
from adapters.prepare_base import prepare
from adapters.shapes import BaseShapes, shapes_of
from gateway.core.refs import NAME_PATTERN, valid_name
from training.config import TrainConfig
from training.data.findings import CheckReport
from training.data.page import write_html
from training.data.prepare import Prepared as PreparedRows
from training.data.prepare import measured
from training.data.prepare import prepare as prepare_rows
from training.data.report import beyond
from training.data.rows import DataError
from training.data.tokens import counting
from training.evaluation.metrics import METRICS
from training.fitting.recipes import RECIPES
from training.progress import Progress
from training.publishing.parents import Parent, parent_of
from training.publishing.probes import NEUTRAL, probe_examples
from training.publishing.publish import Fleet, control_url
from training.runs.order import Order, redacted
from training.runs.settings import kind_wanted, recipe_of, settings
from training.runs.snapshot import Snapshot
from training.runs.sources import reading_of

REPORT = "data.html"


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that training needs to know before a model is loaded."""

    snapshot: Snapshot
    config: TrainConfig
    base: BaseIdentity
    parent: Parent | None
    data: dict[str, Any]
    embedding_sample: EmbeddingSample | None = None


def check(order: Order) -> None:
    """Refuse before the work what would be refused after it.

    Raises:
        ValueError: an option is missing or wrong.
    """
    if order.name is None or order.source is None:
        raise ValueError("name the adapter and its rows: turnout train NAME DATA (or --resume RUN)")
    if not valid_name(order.name):
        raise ValueError(
            f"{order.name!r} can't name an adapter: names match {NAME_PATTERN}, and 'base' is taken"
        )
    if order.on is not None and importlib.util.find_spec("ray") is None:
        raise ValueError("--on needs Ray: pip install 'turnout[ray]', of the release that the cluster has")
    if order.out is not None and order.out.exists():
        raise ValueError(f"--out {order.out} exists already; name another folder, or remove it")
    for name in order.metric or ():
        if name not in METRICS:
            raise ValueError(f"--metric {name} is not known; there are {', '.join(METRICS)}")
    probe_examples(order.probe or NEUTRAL)
    reading_of(order)
    # The order's own mistakes are found before the rows are read; None of the rows is needed for them.
    settings(order, kind_wanted(order.recipe) or "examples")


def fleet_of(order: Order) -> Fleet:
    """Return the fleet that an order publishes to."""
    return Fleet(order.state_dir, control_url(order.state_dir, order.store_url), order.max_rank)


def prepared(order: Order, folder: Path, progress: Progress) -> Prepared:
    """Read, check and split the rows, and make the base model ready. Reports are written into `folder`.

    Raises:
        ValueError: the rows or an option can't be trained with; the message says why.
        OSError: something can't be read or written.
    """
    found = prepare_rows(str(order.source), reading_of(order), stage=progress.stage)
    splits = found.splits
    if splits is None:
        raise DataError(f"{order.source}: too few rows are left to train and to judge")
    prepare(order.base, progress.step)
    found = _measured(found, order, progress)
    write_html(found.report, folder / REPORT)
    for line in _noticed(found.report):
        progress.say(line)
    fleet = fleet_of(order)
    base = identify(order.base, order.base_name or order.base.rstrip("/").rsplit("/", 1)[-1])
    parent = None if order.from_version is None else parent_of(order.from_version, fleet, base)
    folder_of_parent = None if parent is None else parent.folder
    shapes = _shapes(order.base)
    linear = () if shapes is None else shapes.by_kind
    config = settings(order, found.dataset.kind, parent=folder_of_parent, linear=linear)
    if parent is None:
        _require_layers(config, shapes)
    data = {
        "kind": found.dataset.kind,
        "source": order.data_source or source_name(str(order.source)),
        "terms": order.data_terms,
        "fingerprint": found.report.fingerprint,
        "read_fingerprint": found.report.read_fingerprint,
        "rows": splits.counts(),
        "rows_read": found.report.rows_read,
        "rows_kept": found.report.rows_kept,
    }
    return Prepared(Snapshot(found.dataset.kind, splits), config, base, parent, data, found.embedding_sample)


def _measured(found: PreparedRows, order: Order, progress: Progress) -> PreparedRows:
    """Return the rows with their lengths in the base model's tokens, against what a row may have of them.

    Where the tokenizer is not on this machine, as with a cluster's base model, they stay in characters.
    """
    recipe = RECIPES[recipe_of(order, found.dataset.kind)]()
    most = recipe.max_tokens if order.max_tokens is None else order.max_tokens
    with progress.stage("Counting tokens"):
        try:
            of = counting(order.base)
        except (ImportError, OSError, ValueError) as error:
            note = f"lengths are characters, since the base model's tokenizer can't be loaded: {error}"
            return replace(found, report=replace(found.report, notes=(*found.report.notes, note)))
        return measured(found, of.tokens, limit=of.limit(most))


def _shapes(base: str) -> BaseShapes | None:
    folder = folder_of(base)
    return None if folder is None else shapes_of(folder)


def _require_layers(config: TrainConfig, shapes: BaseShapes | None) -> None:
    """Refuse a target that no layer of the base model is called: PEFT would train the others alone.

    Raises:
        ValueError: there is one; the message names what there is.
    """
    targets = () if isinstance(config.target_modules, str) else config.target_modules
    if shapes is None or not shapes.layers:
        return
    names = {layer.rpartition(".")[2] for layer in shapes.layers}
    for target in targets:
        if target.rpartition(".")[2] not in names:
            raise ValueError(
                f"--target-modules {target}: the base model has no such layer; "
                f"it has {', '.join(sorted(names))}"
            )


def source_name(source: str) -> str:
    """Return what a card says of a source: a file's name without its place, an address without secrets."""
    path = Path(source)
    return path.name if path.exists() else str(redacted(source))


def _noticed(report: CheckReport) -> list[str]:
    """Return what was dropped, changed or noticed, a line each."""
    lines = [f"{finding.rows} rows {finding.action}: {finding.name}" for finding in report.findings]
    read = [f"{report.rows_read} rows read, {report.rows_kept} kept", *lines] if lines else []
    long = [beyond(report)] if report.lengths and report.lengths.over else []
    return [*read, *long, *(f"note: {note}" for note in report.notes)]
