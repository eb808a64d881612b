"""One gating from order to report: the rows, the versions, their answers, the gaps, the verdict."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.base import identify
from training.data.rows import Example
from training.environment import quieten
from training.evaluation.asking import Question, Said
from training.evaluation.judged import Task, task_of
from training.evaluation.metrics import METRICS, exact_match
from training.evaluation.prompts import room_for
from training.evaluation.resampling import Resampling, interval
from training.evaluation.systems import Catalogue, System, other_quantizations, shared_instruction
from training.gate.common import Common, common
from training.gate.decide import BEST, CHAMPION, GOLDEN, NEW, TRUSTED, Decision, Rule, decide
from training.gate.gaps import LEVEL
from training.gate.measure import CANDIDATE, Answers, answers_of, measure, slices_in
from training.gate.phrases import Probed, wary
from training.gate.probing import probe
from training.gate.report import Failing, Report, Scored
from training.gate.rows import SETS, Sets, read_sets, trusted, units_of
from training.gate.speed import speeds
from training.gate.truth import truths
from training.progress import Progress
from training.publishing.lineage import code_version

if TYPE_CHECKING:
    from training.evaluation.scorer import Scorer

EXAMPLES = 10
"""So many failing rows are shown."""


@dataclass(frozen=True, slots=True)
class Order:
    """Everything that decides one gating. `best` is the best version ever, where that is another one.

    `paths` has the file of each set, `trained` that of the rows which the candidate learned from.
    """

    route: str
    candidate: str
    champion: str
    best: str | None
    paths: Mapping[str, Path]
    trained: Path | None
    rule: Rule
    catalogue: Catalogue
    base: str
    metrics: tuple[str, ...] | None
    max_answer_tokens: int
    batch_size: int
    seed: int
    cache: Path | None
    command: str


def gate(order: Order, progress: Progress) -> Report:
    """Judge a candidate against the champion, and the best version ever, and give the verdict.

    Raises:
        ValueError: the rows or a version can't be judged with; the message says why.
        StoreUnavailable: the store can't be reached.
        OSError: a file can't be read or written.
    """
    with progress.stage("Reading the registry and the rows"):
        systems = _systems(order)
        sets = read_sets(order.paths, trained=order.trained)
        task = task_of(sets.all(), (), order.metrics)
    instruction, notes = shared_instruction(None, list(systems.values()), sets.all())
    scorer = _scorer(order, systems, instruction, progress)
    room = room_for(scorer.template, sets.all(), order.max_answer_tokens)
    fitting, left = _fitting(scorer, sets, room)
    notes += [*sets.notes, *left, *other_quantizations(list(systems.values()))]
    rows = fitting.all()
    task = Task(tuple(row.completion for row in rows), task.labels, task.metrics, task.fits)
    said: dict[str, Said] = {
        role: scorer.ask(system, rows, Question(room, task.labels), what=f"{system.name} ({role})")
        for role, system in systems.items()
    }
    timed = speeds(scorer, systems, rows, room=room)
    with progress.stage("Comparing"):
        answers = answers_of(rows, task, said)
        decision = decide(measure(answers, fitting, seed=order.seed), order.rule)
    turned: list[Probed] = []
    if decision.verdict in ("passed", "needs_approval"):
        turned, said_of_phrases = probe(
            scorer, systems, answers, fitting, order.trained, room=room, seed=order.seed
        )
        decision, notes = wary(decision, turned), [*notes, *said_of_phrases]
    with progress.stage("Writing the report"):
        found, failing = _failures(answers, fitting, decision)
        return Report(
            route=order.route,
            decision=decision,
            rule=order.rule,
            metric=task.primary,
            systems={role: (system.name, system.digest) for role, system in systems.items()},
            scores=tuple(_scores(answers, fitting, order.seed)),
            trusted_rows=sum(trusted(row) for row in fitting.rows[NEW]),
            calibration=tuple(truths(answers, fitting, seed=order.seed)),
            speed=tuple(timed),
            phrases=tuple(turned),
            common=found,
            failing=failing,
            notes=tuple(notes),
            seed=order.seed,
            created_at=time.time(),
            code_version=code_version(),
            command=order.command,
        )


def _systems(order: Order) -> dict[str, System]:
    """Return who is judged, by role; a best version that is the champion is not asked twice."""
    named = {CANDIDATE: order.candidate, CHAMPION: order.champion}
    if order.best is not None:
        named[BEST] = order.best
    found = {role: order.catalogue.named(name) for role, name in named.items()}
    if found[CANDIDATE].digest is None:
        raise ValueError("the base model can't be a candidate")
    if found[CANDIDATE].digest == found[CHAMPION].digest:
        raise ValueError(f"{order.candidate} has the weights of the champion {order.champion}")
    if BEST in found and found[BEST].digest in (found[CANDIDATE].digest, found[CHAMPION].digest):
        del found[BEST]
    return found


def _scorer(
    order: Order, systems: Mapping[str, System], instruction: str | None, progress: Progress
) -> "Scorer":
    quieten()
    with progress.stage("Loading torch, transformers and peft"):
        from training.evaluation.scorer import Scorer  # noqa: PLC0415 - seconds; the readers' errors come first
    return Scorer(
        order.base,
        list(systems.values()),
        instruction=instruction,
        base_key=identify(order.base, "").digest or order.base,
        progress=progress,
        cache=order.cache,
        batch_size=order.batch_size,
        quantization=systems[CANDIDATE].quantization,
    )


def _fitting(scorer: "Scorer", sets: Sets, room: int) -> tuple[Sets, list[str]]:
    """Return the rows that fit the context window, and what has to be said of the others."""
    notes: list[str] = []
    kept: dict[str, tuple[Example, ...]] = {}
    for name in SETS:
        kept[name] = tuple(row for row in sets.rows[name] if scorer.fits(row, room))
        left = len(sets.rows[name]) - len(kept[name])
        if left:
            notes.append(f"{left} {name} rows are longer than the context window and were left out")
    if not any(kept.values()):
        raise ValueError(f"no row fits the context window of {scorer.base.max_position} tokens")
    return replace(sets, rows=kept), notes


def _scores(answers: Answers, sets: Sets, seed: int) -> list[Scored]:
    found: list[Scored] = []
    golden = {GOLDEN: sets.rows[GOLDEN]} if sets.rows[GOLDEN] else {}
    for name, rows in (sets.asked() | golden).items():
        draws, places = Resampling(units_of(rows), seed=seed), answers.places(rows)
        found += [
            Scored(name, role, len(rows), draws.units, interval(figure.at(places), draws, level=LEVEL))
            for role, figure in answers.figures.items()
        ]
    return found


def _failures(answers: Answers, sets: Sets, decision: Decision) -> tuple[Common | None, tuple[Failing, ...]]:
    """Return what the rows of the driver have in common that the candidate answers worse, and the first."""
    driver = decision.driver
    if driver is None:
        return None, ()
    rows = _rows_of(sets, driver.set, driver.part)
    places = [int(place) for place in answers.places(rows)]
    metric = METRICS.get(answers.task.primary, exact_match)
    ours, theirs = answers.said[CANDIDATE].answers, answers.said[driver.against].answers
    worse: list[bool] = []
    for row, place in zip(rows, places, strict=True):
        now, then = metric(ours[place], row.completion), metric(theirs[place], row.completion)
        worse.append(now.numerator * then.denominator < then.numerator * now.denominator)
    shown = [
        Failing(
            row.columns.get("row_id"),
            row.line,
            row.messages[-1]["content"],
            row.completion,
            theirs[place],
            ours[place],
        )
        for row, place, fails in zip(rows, places, worse, strict=True)
        if fails
    ]
    return common(rows, worse), tuple(shown[:EXAMPLES])


def _rows_of(sets: Sets, name: str, part: str | None) -> Sequence[Example]:
    if name == TRUSTED:
        return [row for row in sets.rows[NEW] if trusted(row)]
    rows = sets.asked()[name]
    return rows if part is None else [rows[int(place)] for place in slices_in(sets, name)[part]]
