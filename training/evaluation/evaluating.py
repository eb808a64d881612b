"""One evaluation from order to report: the rows, the systems, their answers, what they mean, what vouches."""

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.base import identify
from training.config import Quantization
from training.evaluation.compare import findings, groups_of
from training.evaluation.endpoint import Endpoint
from training.evaluation.judge_model import JudgeSettings, preferences
from training.evaluation.judged import OF_TEXTS, Task, task_of
from training.evaluation.judging import Case, Panel, Settings, judge
from training.evaluation.parity import Parity
from training.evaluation.preference import Preferences
from training.evaluation.prompts import room_for
from training.evaluation.report import Report
from training.evaluation.schemas import Fits
from training.evaluation.slices import slices_of
from training.evaluation.sources import Wanted, take
from training.evaluation.systems import Catalogue, System, other_quantizations, shared_instruction
from training.progress import Progress
from training.publishing.lineage import code_version

if TYPE_CHECKING:
    from training.evaluation.scorer import Scorer

TOO_FEW = 100
FEW_GROUPS = 30


@dataclass(frozen=True, slots=True)
class EngineOrder:
    """Whether and where parity is looked for. `given` is a URL that must answer; otherwise one that may."""

    given: str | None
    url: str
    key: str | None = field(default=None, repr=False)
    wanted: bool = True


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that decides one evaluation. `base` is a folder's or hub's model, `margin` a share.

    `quantization` is the candidate's own unless it is given.
    """

    names: tuple[str, ...]
    rows: Wanted
    catalogue: Catalogue
    base: str
    route: str | None
    instruction: str | None
    metrics: tuple[str, ...] | None
    fits: Fits | None
    slices: tuple[str, ...]
    group: str | None
    margin: float
    settings: Settings
    batch_size: int
    cache: Path | None
    engine: EngineOrder
    judge: JudgeSettings | None
    command: str
    quantization: Quantization | None = None

    def quantized(self, systems: Sequence[System]) -> Quantization:
        """Return how the base model is loaded for these systems, the candidate first."""
        return self.quantization or systems[0].quantization


def evaluate_versions(order: Order, progress: Progress) -> Report:
    """Judge the versions of an order against each other, the base model, production and the baselines.

    Raises:
        ValueError: the rows, a version or an option can't be judged with; the message says why.
        StoreUnavailable: the store can't be reached.
        OSError: a file can't be read or written.
    """
    with progress.stage("Reading the registry and the rows"):
        systems = order.catalogue.systems(order.names, route=order.route)
        taken = take(order.rows, systems[0])
        # Whatever an option has wrong about the rows is said before the model is loaded.
        task = task_of(taken.rows, taken.train, order.metrics, order.fits)
        slices_of(taken.rows, order.slices)
        groups_of(taken.rows, order.group)
        texts = task.metrics == OF_TEXTS
        if texts and (order.judge is not None or order.instruction):
            raise ValueError("texts have no prompts and answers: leave --instruction and the judge out")
    instruction, notes = (
        (None, list[str]()) if texts else shared_instruction(order.instruction, systems, taken.rows)
    )
    scorer = _scorer(order, systems, instruction, progress)
    notes += other_quantizations(systems, order.quantization)
    room = room_for(scorer.template, [*taken.train, *taken.rows], order.settings.max_answer_tokens)
    fitting = tuple(row for row in taken.rows if scorer.fits(row, room))
    if not fitting:
        raise ValueError(f"no row fits the context window of {scorer.base.max_position} tokens")
    if len(fitting) < len(taken.rows):
        left = len(taken.rows) - len(fitting)
        notes.append(f"{left} rows are longer than the context window and were left out")
        task = Task(tuple(row.completion for row in fitting), task.labels, task.metrics, task.fits)
    if cut := sum(scorer.cuts(row) for row in fitting):
        notes.append(f"{cut} texts are longer than the context window and were judged by their beginning")
    case = Case(fitting, taken.train, task, order.settings)
    panel = judge(scorer, systems, case)
    found = _Found(order, systems, case, panel, [*taken.notes, *notes])
    parity = _parity(found, scorer, room, progress)
    verdicts = _preferences(found, instruction, progress)
    with progress.stage("Resampling"):
        return _report(found, instruction, parity, verdicts)


def _scorer(order: Order, systems: Sequence[System], instruction: str | None, progress: Progress) -> "Scorer":
    # bitsandbytes warns of an optional kernel package at import; threads that wait in a busy loop crawl
    # when an engine shares the cores.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with progress.stage("Loading torch, transformers and peft"):
        from training.evaluation.scorer import Scorer  # noqa: PLC0415 - seconds; the readers' errors come first
    return Scorer(
        order.base,
        systems,
        instruction=instruction,
        base_key=identify(order.base, "").digest or order.base,
        progress=progress,
        cache=order.cache,
        batch_size=order.batch_size,
        quantization=order.quantized(systems),
    )


@dataclass(frozen=True, slots=True)
class _Found:
    order: Order
    systems: Sequence[System]
    case: Case
    panel: Panel
    notes: list[str]

    @property
    def rival(self) -> str:
        """What is in production and not the candidate; otherwise the base model, held to the labels."""
        candidate = self.systems[0].digest
        running = [each.name for each in self.systems if each.in_production and each.digest != candidate]
        fair = [each.system for each in self.panel.judged if each.system == "base-constrained"]
        return [*running, *fair, "base"][0]


def _few(rows: int, units: int) -> list[str]:
    if units < rows and units < FEW_GROUPS:
        return [f"only {units} groups: intervals over so few are too narrow, and p-values coarse"]
    return [f"only {rows} rows: the intervals are wide"] if rows < TOO_FEW else []


def _parity(found: _Found, scorer: "Scorer", room: int, progress: Progress) -> list[Parity]:
    """Compare every version with an engine, if one is up or was named."""
    engine = found.order.engine
    if not engine.wanted:
        return []
    if found.case.task.metrics == OF_TEXTS:
        found.notes.append("no parity with the serving engine: texts are not asked")
        return []
    versions = [each for each in found.systems if each.digest is not None]
    with Endpoint(engine.given or engine.url, key=engine.key) as endpoint:
        if engine.given is None and not endpoint.up():
            found.notes.append(f"no parity with the serving engine: nothing answers at {endpoint.url}")
            return []
        from training.evaluation.engine_parity import compare_with_engine  # noqa: PLC0415 - imports torch

        compared: list[Parity] = []
        for system in versions:
            if system.manifest is None or system.name != _served_name(system):
                compared.append(Parity(system.name, endpoint.url, failed="a folder is not served"))
                continue
            with progress.stage(f"Parity of {system.name}"):
                compared.append(
                    compare_with_engine(
                        scorer,
                        system,
                        found.case.rows,
                        endpoint,
                        model=system.name,
                        room=room,
                        seed=found.order.settings.seed,
                    )
                )
    return compared


def _served_name(system: System) -> str | None:
    """Return `name@N` for a registered version."""
    made = system.manifest
    return f"{made.name}@{made.version}" if made is not None and made.version is not None else None


def _preferences(found: _Found, instruction: str | None, progress: Progress) -> Preferences | None:
    settings = found.order.judge
    if settings is None:
        return None
    by_name = {each.system: each for each in found.panel.judged}
    rows = found.case.rows
    count = min(settings.rows or len(rows), len(rows))
    with progress.stage(f"Asking the judge {settings.model}", total=count) as stage:
        return preferences(
            settings,
            rows,
            found.panel.judged[0].draws[0],
            by_name[found.rival].draws[0],
            against=found.rival,
            groups=groups_of(rows, found.order.group),
            cache=found.order.cache,
            seed=found.order.settings.seed,
            on_row=stage.advance,
            instruction=instruction,
        )


def _report(
    found: _Found, instruction: str | None, parity: Sequence[Parity], verdicts: Preferences | None
) -> Report:
    order, case = found.order, found.case
    judged = found.panel.judged
    few = _few(len(case.rows), len(set(groups_of(case.rows, order.group))))
    return Report(
        candidate=judged[0].system,
        rival=found.rival,
        source=order.rows.source,
        systems=tuple(found.systems),
        findings=findings(
            judged,
            case.rows,
            case.task,
            slices=slices_of(case.rows, order.slices),
            group=order.group,
            margin=order.margin,
            seed=order.settings.seed,
            rival=found.rival,
        ),
        parity=tuple(parity),
        preferences=verdicts,
        settings={
            "base": order.base,
            "quantization": order.quantized(found.systems),
            "instruction": instruction,
            "held_out": order.rows.held_out,
            "training_rows": len(case.train),
            "labels": list(case.task.labels),
            "group": order.group,
            "batch_size": order.batch_size,
            "cpus": os.cpu_count(),
            **asdict(order.settings),
        },
        notes=(*found.notes, *found.panel.notes, *few),
        created_at=time.time(),
        code_version=code_version(),
        command=order.command,
    )
