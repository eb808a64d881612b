"""From an order to how its rows are read, checked and split."""

import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, cast, get_args

from gateway.core.times import parse_time
from training.data.balance import Resampling
from training.data.check import DECIDING, CheckOptions
from training.data.formats import Limits
from training.data.parsing import Columns
from training.data.prepare import PrepareOptions
from training.data.reading import TRAFFIC
from training.data.recognise import Form, NamedForm
from training.data.splits import Shares
from training.data.traffic import Traffic
from training.publishing.publish import control_url
from training.runs.order import Order
from training.runs.settings import kind_wanted

_COLUMNS = {
    "prompt": "prompt_column",
    "completion": "completion_column",
    "chosen": "chosen_column",
    "rejected": "rejected_column",
    "liked": "rating_column",
    "weight": "weight_column",
}


def reading_of(order: Order) -> PrepareOptions:
    """Return how the order's rows are read, checked and split.

    Raises:
        ValueError: an option is out of range.
    """
    return PrepareOptions(
        columns=_columns(order),
        kind=kind_wanted(order.recipe),
        form=_form(order.format),
        traffic=_traffic(order),
        limits=Limits() if order.max_mib is None else Limits(total_bytes=order.max_mib * 2**20),
        check=_check(order),
        held_out=order.held_out,
        shares=shares_of(order),
        group=order.group,
        resampling=_resampling(order),
        embeddings=order.embeddings,
        seed=7 if order.seed is None else order.seed,
    )


def split_of(order: Order) -> dict[str, Any]:
    """Return what decides which rows are held out, for lineage: `PrepareOptions` by name."""
    how = reading_of(order)
    checked = {name: getattr(how.check, name) for name in DECIDING}
    return {**asdict(how.shares), "group": how.group, **checked}


def shares_of(order: Order) -> Shares:
    """Return the shares of the splits, and their bounds.

    Raises:
        ValueError: they leave nothing to train on.
    """
    asked: dict[str, Any] = {
        "validation": order.validation_share,
        "test": order.test_share,
        "max_train": order.limit,
        "max_test": order.max_test_rows,
    }
    return Shares(**{name: value for name, value in asked.items() if value is not None})


def _columns(order: Order) -> Columns | None:
    named = {field.name: getattr(order, _COLUMNS[field.name]) for field in fields(Columns)}
    given = {name: column for name, column in named.items() if column is not None}
    return Columns(**given) if given else None


def _form(given: str | None) -> Form | None:
    if given is not None and given not in get_args(NamedForm):
        raise ValueError(f"--format {given} is not known; there are {', '.join(get_args(NamedForm))}")
    return cast("Form | None", given)


def _check(order: Order) -> CheckOptions:
    near: dict[str, Any] = {} if order.near is None else {"near": order.near}
    if order.copies_only:
        near["near"] = None
    return CheckOptions(
        personal=cast("Any", order.personal),
        ner_model=order.ner_model,
        conflicts=cast("Any", order.conflicts),
        **near,
    )


def _resampling(order: Order) -> Resampling | None:
    if order.resample is None:
        return None
    seed = 7 if order.seed is None else order.seed
    return Resampling(cast("Any", order.resample), order.resample_cap, seed)


def _traffic(order: Order) -> Traffic | None:
    if not str(order.source or "").startswith(TRAFFIC):
        return None
    now = time.time()
    return Traffic(
        control_url=control_url(order.state_dir, order.store_url),
        requests_url=order.requests_url or f"sqlite:///{Path(order.state_dir).absolute() / 'requests.db'}",
        since=_moment(order.since, now) or 0.0,
        until=_moment(order.until, now),
        version=order.version,
        metric=order.feedback_metric,
        at_least=order.at_least,
        max_text_chars=order.max_text_chars,
    )


def _moment(given: str | None, now: float) -> float | None:
    return None if given is None else parse_time(given, now=now)
