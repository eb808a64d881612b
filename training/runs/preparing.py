"""The first stage of a run: from an order to rows by split, settings, base model and parent, all checked."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from adapters.base import identify
from adapters.manifest import BaseIdentity
from adapters.prepare_base import prepare
from gateway.core.refs import NAME_PATTERN, valid_name
from training.config import TrainConfig
from training.data.reading import Columns, read_dataset
from training.data.rows import Dataset
from training.data.splits import Shares, split
from training.evaluation.metrics import METRICS
from training.progress import Progress
from training.publishing import lineage
from training.publishing.parents import Parent, parent_of
from training.publishing.probes import NEUTRAL, probe_examples
from training.publishing.publish import Fleet, control_url
from training.runs.order import Order
from training.runs.settings import kind_wanted, settings
from training.runs.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything that training needs to know before a model is loaded."""

    snapshot: Snapshot
    config: TrainConfig
    base: BaseIdentity
    parent: Parent | None
    data: dict[str, Any]


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
    if order.out is not None and order.out.exists():
        raise ValueError(f"--out {order.out} exists already; name another folder, or remove it")
    for name in order.metric or ():
        if name not in METRICS:
            raise ValueError(f"--metric {name} is not known; there are {', '.join(METRICS)}")
    probe_examples(order.probe or NEUTRAL)
    shares_of(order)
    # The order's own mistakes are found before the rows are read; None of the rows is needed for them.
    settings(order, kind_wanted(order.recipe) or "examples")


def fleet_of(order: Order) -> Fleet:
    """Return the fleet that an order publishes to."""
    return Fleet(order.state_dir, control_url(order.state_dir, order.store_url), order.max_rank)


def shares_of(order: Order) -> Shares:
    """Return the shares of the splits, and their bounds.

    Raises:
        ValueError: they leave nothing to train on.
    """
    asked = {
        "validation": order.validation_share,
        "test": order.test_share,
        "max_train": order.limit,
        "max_test": order.max_test_rows,
    }
    known = {field.name for field in fields(Shares)}
    return Shares(**{name: value for name, value in asked.items() if value is not None and name in known})  # type: ignore[arg-type]  # by name


def rows_of(order: Order) -> Dataset:
    """Read the order's rows.

    Raises:
        DataError: they can't be read; the message names file, line and field.
    """
    columns = None
    if order.prompt_column is not None or order.completion_column is not None:
        columns = Columns(order.prompt_column or "prompt", order.completion_column or "completion")
    return read_dataset(str(order.source), columns=columns, kind=kind_wanted(order.recipe))


def prepared(order: Order, folder: Path, progress: Progress) -> Prepared:  # noqa: ARG001 - reports go there
    """Read, check and split the rows, and make the base model ready. Reports are written into `folder`.

    Raises:
        ValueError: the rows or an option can't be trained with; the message says why.
        OSError: something can't be read or written.
    """
    with progress.stage("Reading the rows"):
        dataset = rows_of(order)
        snapshot = Snapshot(dataset.kind, split(dataset.rows, shares_of(order)))
    fleet = fleet_of(order)
    prepare(order.base, progress.step)
    base = identify(order.base, order.base_name or order.base.rstrip("/").rsplit("/", 1)[-1])
    parent = None if order.from_version is None else parent_of(order.from_version, fleet, base)
    config = settings(order, dataset.kind, parent=None if parent is None else parent.folder)
    data = {
        "kind": dataset.kind,
        "source": order.data_source or Path(str(order.source)).name or str(order.source),
        "terms": order.data_terms,
        "fingerprint": lineage.fingerprint(dataset.rows),
        "rows": snapshot.splits.counts(),
    }
    return Prepared(snapshot, config, base, parent, data)
