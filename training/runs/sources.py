"""From an order to how its rows are read, checked and split."""

from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from training.data.balance import Resampling
from training.data.check import CheckOptions
from training.data.parsing import Columns
from training.data.prepare import PrepareOptions
from training.data.reading import TRAFFIC
from training.data.recognise import FORMS, Form
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
    "liked": "liked_column",
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
        check=_check(order),
        held_out=order.held_out,
        shares=shares_of(order),
        group=order.group,
        resampling=_resampling(order),
        embeddings=order.embeddings,
        seed=7 if order.seed is None else order.seed,
    )


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
    if given is not None and given not in FORMS:
        raise ValueError(f"--format {given} is not known; there are {', '.join(FORMS)}")
    return cast("Form | None", given)


def _check(order: Order) -> CheckOptions:
    near: dict[str, Any] = {}
    if order.near is not None:
        near["near"] = None if order.near >= 1 else order.near
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
    return Traffic(
        control_url=control_url(order.state_dir, order.store_url),
        requests_url=order.requests_url or f"sqlite:///{Path(order.state_dir).absolute() / 'requests.db'}",
        since=_moment("--since", order.since) or 0.0,
        until=_moment("--until", order.until),
        version=order.of_version,
        metric=order.feedback_metric,
        at_least=order.liked_from,
    )


def _moment(option: str, given: str | None) -> float | None:
    """Return a day or a time as seconds since the epoch; without a zone it is this machine's."""
    if given is None:
        return None
    try:
        return datetime.fromisoformat(given).astimezone().timestamp()
    except ValueError as error:
        raise ValueError(f"{option} {given} is no day (2026-11-21) and no time (2026-11-21T08:00)") from error
