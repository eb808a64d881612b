"""Evidently's part of a report: descriptors, drift of columns and texts, drawn and kept in its workspace.

It draws; it does not judge (docs/decisions/0003-drift-verdict.md), so its tests stay off and the words "drift
detected" of its widgets are replaced. Embeddings are a column of ours, how novel each prompt is: its own
metric for them draws a t-SNE of all rows, which takes minutes, and its score does not tell drift from none.
"""

import os
import uuid
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.permutation import FloatArray
from monitoring.report import ReportUnavailable
from monitoring.watch.dashboard import lay_out

_NAMES = uuid.UUID("6f1c4b54-7c53-4b0e-9a0f-2d5d3a1f7a11")
_LEAST_VALUES = 2
_TEXT = "prompt"
_DESCRIPTORS = ("words", "sentences", "non-letters, %")
_NOT_JUDGED = "shown, not judged: the decision above is the detector's"


@dataclass(frozen=True, slots=True)
class Table:
    """What is drawn of one window. NaN stands for gaps."""

    numbers: Mapping[str, FloatArray]
    categories: Mapping[str, Sequence[str]]
    texts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Drawn:
    """Evidently's page and its figures."""

    html: str
    document: dict[str, Any]


def draw(
    route: str, reference: Table, current: Table, *, workspace: Path, key: str, at: float, keep: int
) -> Drawn:
    """Draw a report, and keep it in Evidently's workspace as a run of the project that is named by the route.

    `key` names the run: drawn again, it replaces itself. Of a project the newest `keep` runs stay.

    Raises:
        ReportUnavailable: Evidently is missing.
        OSError: the workspace can't be written to.
    """
    os.environ["DO_NOT_TRACK"] = "1"  # read by Evidently at its import: no telemetry
    with warnings.catch_warnings():
        # Evidently 0.7.23 and what it imports use names that NumPy and Litestar have deprecated; nothing
        # that a reader of a report could act on.
        warnings.simplefilter("ignore")
        try:
            from evidently.ui.workspace import Workspace  # noqa: PLC0415 - seconds to import
        except ImportError as error:
            raise ReportUnavailable("Evidently is not installed: install turnout[monitoring]") from error
        snapshot = _snapshot(route, reference, current, at=at)
        page, document = snapshot.get_html_str(as_iframe=False), snapshot.dict()
        workspace.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = Workspace.create(str(workspace))
        project = _keep(place, route, snapshot, key=key, keep=keep)
        numbers = [*reference.numbers, *_DESCRIPTORS]
        lay_out(place, project, numbers=numbers, categories=list(reference.categories), text=_TEXT)
    return Drawn(page, document)


def _snapshot(route: str, reference: Table, current: Table, *, at: float) -> Any:
    from evidently import Report  # noqa: PLC0415 - as above
    from evidently.metrics import RowCount, ValueDrift  # noqa: PLC0415 - as above

    numbers = [
        name for name in reference.numbers if _drawable(reference.numbers[name], current.numbers[name])
    ]
    categories = list(reference.categories)
    before, after = _data(reference, numbers), _data(current, numbers)
    metrics: list[Any] = [RowCount()]
    metrics += [ValueDrift(column=name, method="wasserstein") for name in (*numbers, *_DESCRIPTORS)]
    metrics += [ValueDrift(column=name, method="jensenshannon") for name in categories]
    metrics.append(ValueDrift(column=_TEXT))
    moment = datetime.fromtimestamp(at, UTC)
    name = f"{route} {moment:%Y-%m-%d %H:%M}"
    snapshot = Report(metrics, include_tests=False).run(after, before, name=name, timestamp=moment)
    _relabel(snapshot)
    return snapshot


def _data(part: Table, numbers: Sequence[str]) -> Any:
    import pandas as pd  # noqa: PLC0415 - as above
    from evidently import DataDefinition, Dataset  # noqa: PLC0415 - as above
    from evidently.descriptors import (  # noqa: PLC0415 - as above
        NonLetterCharacterPercentage,
        SentenceCount,
        WordCount,
    )

    columns = {name: part.numbers[name] for name in numbers}
    said = {name: list(values) for name, values in part.categories.items()}
    rows = pd.DataFrame({**columns, **said, _TEXT: list(part.texts)})
    return Dataset.from_pandas(
        rows,
        data_definition=DataDefinition(
            numerical_columns=list(numbers),
            categorical_columns=list(said),
            text_columns=[_TEXT],
        ),
        descriptors=[
            describe(_TEXT, alias=name)
            for describe, name in zip(
                (WordCount, SentenceCount, NonLetterCharacterPercentage), _DESCRIPTORS, strict=True
            )
        ],
    )


def _keep(workspace: Any, route: str, snapshot: Any, *, key: str, keep: int) -> uuid.UUID:
    from evidently.sdk.models import ProjectModel  # noqa: PLC0415 - as above

    project = uuid.uuid5(_NAMES, route)
    if workspace.get_project(project) is None:
        workspace.add_project(ProjectModel(id=project, name=route, description=f"Drift of the route {route}"))
    # The same as add_run, under a name of ours: written twice, it is there once.
    workspace.state.write_snapshot(project, uuid.uuid5(project, key), snapshot.to_snapshot_model())
    folder = Path(workspace.path) / workspace.state._snapshot_dir(project)  # noqa: SLF001 - tells their age
    runs = sorted(folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for old in runs[keep:]:
        old.unlink(missing_ok=True)
    return project


def _relabel(snapshot: Any) -> None:
    """Take Evidently's own verdicts out of its widgets."""
    for result in snapshot.metric_results.values():
        for widget in result.widget or []:
            for counter in widget.params.get("counters", []) if isinstance(widget.params, dict) else []:
                said = f"{counter.get('label', '')} {counter.get('value', '')}".casefold()
                if "drift" in said and "detected" in said:
                    counter["label"] = _NOT_JUDGED


def _drawable(reference: FloatArray, current: FloatArray) -> bool:
    return all(np.isfinite(values).sum() >= _LEAST_VALUES for values in (reference, current))
