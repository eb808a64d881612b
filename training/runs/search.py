"""Search for settings with Optuna: trials in the run's folder, bad ones given up early, resumable.

The study is an SQLite file in the run's folder. A process that is killed leaves a trial that says that it
runs; since whoever searches holds the run's lock, such a trial is dead, and its settings are tried again.
"""

import json
import logging
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from adapters.base import folder_of
from adapters.shapes import shapes_of
from training.config import TrainConfig
from training.data.rows import DataError
from training.job import Job, Maker
from training.progress import Progress, Stage, duration
from training.runs.folder import Run
from training.runs.order import Order
from training.runs.plots import draw_history, draw_importance
from training.runs.settings import config_document, config_of
from training.runs.snapshot import Snapshot
from training.runs.space import Space, alpha_of, applied, rung_of, space_of, start_of, suggest, trial_config

STUDY = "study.db"
WINNER = "winner.json"
ENDED = "ended"
"""Set on a trial that came to an end of its own; one without it was stopped with its process."""

ACCUMULATION = "accumulation"
"""Set on a study: what its space was made for. A resumed run may have another, and a study has one space."""

MIN_FOR_IMPORTANCE = 5
_SAID = {TrialState.COMPLETE: "finished", TrialState.PRUNED: "given up", TrialState.FAIL: "failed"}


@dataclass
class TrialListener:
    """Tells Optuna the validation losses of a trial, and ends it where they are bad."""

    trial: Any
    config: TrainConfig
    reported: set[int] = field(default_factory=set)

    def shown_on(self, stage: Stage) -> None:
        """Show nothing: a trial has its line when it is done."""

    def on_step(self, step: int, steps: int, loss: float | None) -> None:
        """Do nothing."""

    def on_log(self, step: int, values: dict[str, float], tokens: int | None) -> None:
        """Do nothing."""

    def on_validation(self, step: int, loss: float) -> None:
        """Report a validation that trials are compared at."""
        rung = rung_of(step, self.config)
        if rung is None or rung in self.reported:
            return
        self.reported.add(rung)
        self.trial.report(loss, rung)
        if self.trial.should_prune():
            raise optuna.TrialPruned


def search(run: Run, order: Order, snapshot: Snapshot, job: Job, progress: Progress) -> TrainConfig:
    """Try settings until there are as many trials as were asked for; return the best ones.

    Raises:
        ValueError: there are no validation rows to compare by, or no trial came to its end.
        OSError: the study can't be written.
    """
    if (kept := run.text(WINNER)) is not None:
        return config_of(json.loads(kept))
    if not snapshot.splits.validation:
        raise ValueError("--search compares by the validation loss, and there are no validation rows")
    attention = attention_layers(job.model)
    study = open_study(run.path / STUDY, job.config, pruner=order.search_pruner)
    space = _space(study, order, job.config, rows=len(snapshot.splits.train), attention=attention)
    try_out = Trials(run, snapshot, job, space=space, attention=attention, progress=progress)
    wanted, stop_at = int(order.search or 0), _deadline(order.search_minutes)
    while len(ended(study)) < wanted and time.monotonic() < stop_at:
        try_out.one(study)
        report(study, run.path)
    best = best_of(study)
    config = applied(job.config, best.params, attention=attention)
    for line in table(study):
        progress.say(line)
    progress.say(
        f"the best of {len(ended(study))} trials is number {best.number}: validation {best.value:.4f}"
    )
    run.write(WINNER, json.dumps(config_document(config)) + "\n")
    shutil.rmtree(run.path / "trials", ignore_errors=True)
    return config


def open_study(path: Path, config: TrainConfig, *, pruner: str) -> Any:
    """Open a run's study or begin it; trials that died with their process are queued to be tried again."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = f"sqlite:///{path}"
    with _quiet():
        study = optuna.create_study(
            storage=storage, study_name="turnout", direction="minimize", load_if_exists=True
        )
        trials = study.get_trials(deepcopy=False)
        # A sampler that began with the same seed again would draw again what it has drawn.
        study.sampler = optuna.samplers.TPESampler(seed=config.seed + len(trials), n_startup_trials=5)
        study.pruner = PRUNERS[pruner]()
    if not trials:
        study.set_user_attr(ACCUMULATION, config.accumulation)
        study.enqueue_trial(start_of(config))
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            if trial.params:
                study.enqueue_trial(trial.params)
    return study


PRUNERS: dict[str, Callable[[], Any]] = {
    "median": lambda: optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1),
    "halving": lambda: optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=2),
    "none": optuna.pruners.NopPruner,
}


class Trials:
    """Runs trials of one job."""

    def __init__(
        self,
        run: Run,
        snapshot: Snapshot,
        job: Job,
        *,
        space: Space,
        attention: Sequence[str],
        progress: Progress,
    ) -> None:
        self._folder = run.path / "trials"
        self._snapshot = snapshot
        self._job = job
        self._attention = attention
        self._progress = progress
        self._rows = len(snapshot.splits.train)
        self._space = space

    def one(self, study: Any) -> None:
        """Train one choice of settings and tell the study how it went. An interrupt leaves it as running."""
        trial = study.ask()
        with _quiet():
            choice = suggest(trial, self._space)
        started = time.monotonic()
        state, value, said = self._tried(trial, choice)
        trial.set_user_attr("seconds", round(time.monotonic() - started, 1))
        trial.set_user_attr("said", said)
        trial.set_user_attr(ENDED, True)
        study.tell(trial, value, state=state)
        shown = "" if value is None else f"validation {value:.4f}, "
        self._progress.say(
            f"trial {trial.number}: {shown}{_SAID[state]}{f' ({said})' if said else ''} "
            f"after {duration(time.monotonic() - started)}: {_words(choice)}"
        )

    def _tried(self, trial: Any, choice: dict[str, Any]) -> tuple[TrialState, float | None, str]:
        folder = self._folder / str(trial.number)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            config = trial_config(applied(self._job.config, choice, attention=self._attention), self._rows)
            maker = Maker(
                replace(self._job, config=config),
                self._snapshot.splits,
                folder,
                Progress(quiet=True),
                listener=TrialListener(trial, config),
            )
            maker.train()
            loss = maker.trained().validation_after
        except optuna.TrialPruned:
            return TrialState.PRUNED, None, ""
        except DataError:
            raise
        except ValueError as error:  # it does not fit, or its loss is no number: other settings may do
            return TrialState.FAIL, None, str(error)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return TrialState.COMPLETE, loss, ""


def ended(study: Any) -> list[Any]:
    """Return the trials that came to an end of their own."""
    return [trial for trial in study.get_trials(deepcopy=False) if trial.user_attrs.get(ENDED)]


def best_of(study: Any) -> Any:
    """Return the finished trial with the lowest validation loss.

    Raises:
        ValueError: no trial was finished.
    """
    found = [trial for trial in ended(study) if trial.state == TrialState.COMPLETE]
    if not found:
        reasons = {trial.user_attrs.get("said") for trial in ended(study)} - {"", None}
        raise ValueError(f"no trial of the search was finished: {'; '.join(sorted(reasons)) or 'none began'}")
    return min(found, key=lambda trial: trial.value)


def table(study: Any) -> list[str]:
    """Return the trials as a table in Markdown, the best first."""
    lines = [
        "| trial | validation loss | rank | alpha | learning rate | batch | passes | targets | seconds | |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    trials = sorted(
        ended(study), key=lambda trial: (trial.state != TrialState.COMPLETE, _value(trial), trial.number)
    )
    for trial in trials:
        found = trial.params
        value = "" if trial.value is None else f"{_value(trial):.4f}"
        lines.append(
            f"| {trial.number} | {value} | {found['rank']} | {alpha_of(found):g} "
            f"| {found['learning_rate']:.2g} | {found['batch_size']} | {found['epochs']:g} "
            f"| {found['targets']} | {trial.user_attrs.get('seconds', '')} | {_SAID[trial.state]} |"
        )
    return lines


def report(study: Any, folder: Path) -> None:
    """Write the table and draw the plots of a search so far."""
    (folder / "trials.md").write_text("\n".join(table(study)) + "\n", encoding="utf-8")
    done = [trial for trial in ended(study) if trial.state == TrialState.COMPLETE]
    draw_history([(trial.number, _value(trial)) for trial in done], folder / "trials.png")
    if len(done) >= MIN_FOR_IMPORTANCE:
        draw_importance(importance(study), folder / "importance.png")


def importance(study: Any) -> dict[str, float]:
    """Return how much each setting decided (PED-ANOVA, Watanabe and others, 2023), or nothing."""
    try:
        with _quiet():
            found = optuna.importance.get_param_importances(
                study, evaluator=optuna.importance.PedAnovaImportanceEvaluator()
            )
    except (ValueError, RuntimeError) as error:  # every trial alike, or settings with one value
        logging.getLogger(__name__).debug("no importance: %s", error)
        return {}
    return {name: float(share) for name, share in found.items()}


def attention_layers(model: str) -> tuple[str, ...]:
    """Return the last names of the base model's attention layers; nothing where they are not known."""
    folder = folder_of(model)
    shapes = None if folder is None else shapes_of(folder)
    if shapes is None:
        return ()
    names = {layer.rsplit(".", 1)[-1] for layer in shapes.layers if "attn" in layer or "attention" in layer}
    return tuple(sorted(names))


_SEARCHED = ("rank", "alpha", "learning_rate", "batch_size", "epochs", "target_modules")


def _space(study: Any, order: Order, config: TrainConfig, *, rows: int, attention: Sequence[str]) -> Space:
    """Return what to try: the same at every resume, though a batch size may not fit a new accumulation."""
    begun = replace(config, accumulation=study.user_attrs.get(ACCUMULATION, config.accumulation))
    given = frozenset(name for name in _SEARCHED if getattr(order, name) is not None)
    return space_of(begun, given=given, max_rank=order.max_rank, rows=rows, attention=attention)


def _value(trial: Any) -> float:
    return float("inf") if trial.value is None else float(trial.value)


def _words(choice: dict[str, Any]) -> str:
    return (
        f"rank {choice['rank']}, alpha {alpha_of(choice):g}, learning rate "
        f"{choice['learning_rate']:.2g}, batch {choice['batch_size']}, passes {choice['epochs']:g}, "
        f"{choice['targets']}"
    )


def _deadline(minutes: float | None) -> float:
    return float("inf") if minutes is None else time.monotonic() + 60 * minutes


@contextmanager
def _quiet() -> Iterator[None]:
    """Leave out Optuna's warnings that an interface is new."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
