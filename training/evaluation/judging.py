"""Who is judged, and how each is asked: versions, the base model in fair forms, and what needs no model."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from training.config import MAX_ANSWER_TOKENS
from training.data.rows import Example
from training.evaluation.asking import Question, Said, is_text
from training.evaluation.baselines import draw_shots, majority, plain_classifier
from training.evaluation.judged import Judged, Task
from training.evaluation.metrics import named_label
from training.evaluation.prompts import room_for
from training.evaluation.systems import BASE_SYSTEM, System

if TYPE_CHECKING:
    from training.evaluation.scorer import Scorer

SHOTS = 4
DRAWS = 3
BASE_LABEL_TOKENS = 32
"""So much room a base model gets to name a label in a sentence of its own."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How systems are asked. `shots` worked examples in each of `draws` draws, 0 for none."""

    shots: int = SHOTS
    draws: int = DRAWS
    baselines: bool = True
    max_answer_tokens: int = MAX_ANSWER_TOKENS
    seed: int = 7


@dataclass(frozen=True, slots=True)
class Case:
    """The rows to judge by, the rows that baselines may learn from, and what is wanted."""

    rows: tuple[Example, ...]
    train: tuple[Example, ...]
    task: Task
    settings: Settings = field(default_factory=Settings)


@dataclass(slots=True)
class Panel:
    """All systems' answers to the rows, and what has to be said about how they came about."""

    judged: list[Judged] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def judge(scorer: "Scorer", systems: Sequence[System], case: Case) -> Panel:
    """Ask every version and the base model, and work the baselines out.

    Without training rows there are no baselines that learn from them, which is noted.
    """
    panel = Panel()
    rows, task = case.rows, case.task
    room = room_for(scorer.template, [*case.train, *rows], case.settings.max_answer_tokens)
    question = Question(room, task.labels)
    for system in systems:
        if system.digest is not None:
            said = scorer.ask(system, rows, question, what=system.name)
            panel.judged.append(_judged(system.name, "version", said))
    free = Question(max(room, BASE_LABEL_TOKENS) if task.labels else room, task.labels)
    said = scorer.ask(BASE_SYSTEM, rows, free, what="the base model")
    panel.judged.append(_judged("base", "base", said))
    if not case.settings.baselines or all(is_text(row) for row in rows):
        return panel
    if task.labels:
        panel.judged += _base_on_labels(said, task)
    _with_training_rows(panel, scorer, case, room)
    return panel


def _with_training_rows(panel: Panel, scorer: "Scorer", case: Case, room: int) -> None:
    task, train, settings = case.task, case.train, case.settings
    if not train:
        panel.notes.append(
            "no training rows were given (--train, or --held-out with the data), so there is no few-shot base"
            + (", majority or plain classifier" if task.labels else "")
        )
        return
    if settings.shots:
        panel.judged.append(_few_shot(scorer, case, room))
    if task.labels:
        panel.judged.append(Judged("majority", "baseline", (majority(train, len(case.rows)),)))
        try:
            with scorer.progress.stage("Judging a plain classifier"):
                answers, chances = plain_classifier(train, case.rows, task.labels, seed=settings.seed)
        except (ImportError, ValueError) as error:
            panel.notes.append(f"no plain classifier: {error}")
            return
        panel.judged.append(Judged("tf-idf", "baseline", (answers,), chances=chances))


def _few_shot(scorer: "Scorer", case: Case, room: int) -> Judged:
    """Ask the base model with worked examples: for labels the likeliest one, otherwise a free answer."""
    task, settings = case.task, case.settings
    draws: list[Said] = []
    for draw in range(settings.draws):
        shots = draw_shots(case.train, settings.shots, seed=settings.seed, draw=draw)
        question = Question(0 if task.labels else room, task.labels, shots, likely=not task.labels)
        what = f"the base model, {len(shots)} examples, draw {draw + 1}"
        draws.append(scorer.ask(BASE_SYSTEM, case.rows, question, what=what))
    chances = [said.chances for said in draws if said.chances is not None]
    nats = [said.nats for said in draws if said.nats is not None]
    return Judged(
        f"base-{settings.shots}-shot",
        "baseline",
        tuple(_likeliest(said, task) if task.labels else said.answers for said in draws),
        nats=np.mean(nats, axis=0) if nats else None,
        tokens=draws[0].tokens,
        chances=np.mean(chances, axis=0) if chances else None,
    )


def _base_on_labels(said: Said, task: Task) -> list[Judged]:
    named = tuple(named_label(answer, task.labels) for answer in said.answers)
    return [
        Judged("base-lenient", "baseline", (named,)),
        # Its probabilities are those of `base`, and reported there.
        Judged("base-constrained", "baseline", (_likeliest(said, task),)),
    ]


def _likeliest(said: Said, task: Task) -> tuple[str, ...]:
    if said.chances is None:
        raise ValueError("labels were not asked for")
    return tuple(task.labels[int(best)] for best in said.chances.argmax(axis=1))


def _judged(name: str, kind: str, said: Said) -> Judged:
    return Judged(
        name,
        "version" if kind == "version" else "base",
        (said.answers,),
        nats=said.nats,
        tokens=said.tokens,
        chances=said.chances,
    )
