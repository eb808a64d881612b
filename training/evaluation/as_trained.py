"""How a version's rows were read, cleaned and split, as its lineage says, and whether rows are those."""

import shlex
from collections.abc import Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from adapters.manifest import Lineage
from training.data.check import DECIDING, CheckOptions, check
from training.data.parsing import Columns
from training.data.prepare import PrepareOptions
from training.data.recognise import Form
from training.data.rows import Dataset
from training.data.splits import Shares
from training.publishing.lineage import fingerprint, read_fingerprint

_TRAIN = ["turnout", "train"]


def options_of(
    lineage: Lineage | None, *, columns: Columns | None, form: Form | None, shares: Mapping[str, Any]
) -> PrepareOptions:
    """Return how rows were read, cleaned and split: as given, as lineage says, as training does anyway.

    Of the `shares` that are given, those that are None are not.
    """
    recorded = split_in(lineage)
    given = {name: value for name, value in shares.items() if value is not None}
    known = {name: recorded[name] for name in Shares.__dataclass_fields__ if name in recorded}
    weight, elsewhere = _asked(lineage, "--weight-column"), _asked(lineage, "--held-out")
    return PrepareOptions(
        columns=columns if weight is None else replace(columns or Columns(), weight=weight),
        form=form,
        check=_check_of(lineage),
        # Rows that are not here any more can't be left out; the fingerprints then differ.
        held_out=elsewhere if elsewhere is not None and Path(elsewhere).exists() else None,
        shares=Shares(**{**known, **given}),
        group=recorded.get("group"),
        embeddings=False,
    )


def split_in(lineage: Lineage | None) -> Mapping[str, Any]:
    """Return how a version's rows were checked and split, where its lineage says it (`config.split`)."""
    found = lineage.config.get("split") if lineage else None
    return found if isinstance(found, dict) else {}


def learned_from(lineage: Lineage | None, dataset: Dataset) -> bool:
    """Whether rows are those that a version was trained from, as they were read or as the check left them.

    Raises:
        NerModelMissing: it can't be told without a model that is not here.
    """
    if lineage is None:
        return False
    if fingerprint(dataset.rows) == lineage.data_fingerprint:
        return True
    if lineage.read_fingerprint is not None:
        return read_fingerprint(dataset.rows) == lineage.read_fingerprint
    # Versions of older releases have only what the check had left.
    return check(dataset, _check_of(lineage)).report.fingerprint == lineage.data_fingerprint


def _check_of(lineage: Lineage | None) -> CheckOptions:
    recorded = split_in(lineage)
    # Older releases have the model that found names in the command alone.
    known = {"ner_model": _asked(lineage, "--ner-model"), **recorded}
    return CheckOptions(**{name: known[name] for name in DECIDING if name in known})


def _asked(lineage: Lineage | None, flag: str) -> str | None:
    """Return the value of an option in the command that made a version; None where it has none."""
    try:
        words = shlex.split(lineage.command) if lineage else []
    except ValueError:
        return None
    return dict(pairwise(words)).get(flag) if words[:2] == _TRAIN else None
