"""`turnout train --dry-run`: read and encode the rows, look at the base model's shape, and train nothing.

With `--measure` the model is loaded and a few real steps are timed; what they train is thrown away.
"""

import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from adapters.base import folder_of
from adapters.manifest import BaseIdentity
from training.config import TrainConfig
from training.environment import quieten
from training.job import Job, Maker, Origin
from training.progress import Progress, Stage
from training.runs.estimate import Estimate, speeds_of, steps_of, time_of
from training.runs.folder import NoSuchRun, RunState, all_runs, runs_dir
from training.runs.order import Order
from training.runs.preparing import Prepared, prepared
from training.runs.snapshot import Snapshot

WARM_STEPS = 2
TIMED_STEPS = 5


def dry_run(order: Order, progress: Progress, *, measure: bool) -> Estimate:
    """Return what the order's run will take.

    Raises:
        ValueError: the rows or an option can't be trained with.
        OSError: the rows or the base model can't be read.
    """
    quieten()
    with tempfile.TemporaryDirectory(prefix="turnout-") as scratch:
        found = prepared(replace(order, embeddings=False), Path(scratch), progress)
        measured = _measured(order, found, Path(scratch), progress) if measure else []
    with progress.stage("Loading the tokenizer"):
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig  # noqa: PLC0415 - seconds

        from training.fitting.encoding import encode  # noqa: PLC0415
        from training.fitting.template import Template  # noqa: PLC0415

        source = str(folder_of(order.base) or order.base)
        tokenizer = AutoTokenizer.from_pretrained(source)
        model = AutoConfig.from_pretrained(source)
        ends = _stops(GenerationConfig, source, model)
    template = Template(tokenizer, ends, instruction=order.instruction)
    config = found.config
    rows, too_long = encode(
        template,
        found.snapshot.splits.train,
        config,
        max_position=int(model.get_text_config().max_position_embeddings),
    )
    return _estimate(order, found, rows, too_long, model=model, measured=measured)


def _estimate(
    order: Order,
    found: Prepared,
    rows: Sequence[Any],
    too_long: int,
    *,
    model: Any,
    measured: Sequence[float],
) -> Estimate:
    from training.fitting.memory import chosen, estimate, load_of, proposal, shape_of  # noqa: PLC0415 - imports torch
    from training.fitting.model import compute_dtype  # noqa: PLC0415
    from training.fitting.plan import answers_of  # noqa: PLC0415
    from training.fitting.room import free_bytes  # noqa: PLC0415

    config = found.config
    shape, free = shape_of(model.to_dict(), width=compute_dtype().itemsize), free_bytes()
    lengths = [len(row) for row in rows]
    load = load_of(lengths, [answers_of(row) for row in rows], config)
    checkpointing, unpack = chosen(shape, config, load, free_bytes=free)
    memory = estimate(shape, config, load, checkpointing=checkpointing, unpack=unpack)
    advice = None
    if memory.total > free:
        ran = replace(config, gradient_checkpointing=checkpointing, unpack_base=unpack)
        advice = proposal(shape, ran, load, free_bytes=free)
    steps, tokens = steps_of(_items(lengths, config), config.batch_size, config.epochs), sum(lengths)
    return Estimate(
        rows=found.snapshot.splits.counts(),
        too_long=too_long,
        steps=steps,
        tokens=tokens,
        longest=max(lengths, default=0),
        trained_weights=shape.linear + shape.tables if config.full else shape.adapter(config.rank),
        memory={
            part: getattr(memory, part)
            for part in ("weights", "unpacked", "trained", "activations", "logits")
        },
        free=free,
        choices={"gradient_checkpointing": checkpointing, "unpack_base": unpack},
        time=time_of(
            steps,
            round(tokens * config.epochs),
            measured_s=measured,
            speeds=speeds_of(
                _states(order),
                base=found.base.model_dump(),
                method=config.method,
                host=socket.gethostname(),
            ),
        ),
        advice=advice,
    )


def _items(lengths: Sequence[int], config: TrainConfig) -> int:
    """Return the rows of an epoch: texts are packed until rows are full."""
    if config.method == "domain" and config.packing:
        from training.fitting.packing import bins  # noqa: PLC0415 - imports torch

        return len(bins(list(lengths), config.max_tokens))
    return len(lengths)


def _states(order: Order) -> list[RunState]:
    found = []
    for run in all_runs(runs_dir(order.runs)):
        try:
            found.append(run.read())
        except NoSuchRun:
            continue
    return found


def _stops(kind: Any, source: str, model: Any) -> set[int]:
    """Return the token ids at which the engine stops, as the base model's files say."""
    try:
        ends = kind.from_pretrained(source).eos_token_id
    except OSError:
        ends = model.eos_token_id
    return set(ends if isinstance(ends, list) else [ends]) - {None}


class _Stop(Exception):
    """Enough steps were timed."""


class _Stopwatch:
    """A listener that times steps, and ends the training after a few."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._last: float | None = None
        self._steps = 0

    def shown_on(self, stage: Stage) -> None:
        """Show nothing."""

    def on_step(self, step: int, steps: int, loss: float | None) -> None:  # noqa: ARG002 - a listener's
        """Take the time since the step before, once it has warmed up."""
        now = time.monotonic()
        self._steps += 1
        if self._last is not None and self._steps > WARM_STEPS:
            self.seconds.append(now - self._last)
        self._last = now
        if len(self.seconds) == TIMED_STEPS or step == steps:
            raise _Stop

    def on_log(self, step: int, values: dict[str, float], tokens: int | None) -> None:
        """Do nothing."""

    def on_validation(self, step: int, loss: float) -> None:
        """Do nothing."""


def _measured(order: Order, found: Prepared, scratch: Path, progress: Progress) -> list[float]:
    """Return the seconds of a few real steps."""
    watch = _Stopwatch()
    splits = replace(found.snapshot.splits, validation=())
    maker = Maker(_job(order, found, found.snapshot), splits, scratch, progress, listener=watch)
    try:
        maker.train()
    except _Stop:
        return watch.seconds
    return watch.seconds


def _job(order: Order, found: Prepared, snapshot: Snapshot) -> Job:
    return Job(
        name=str(order.name),
        examples=snapshot.splits.train,
        model=order.base,
        base=BaseIdentity(name=found.base.name),
        origin=Origin("turnout train --dry-run", "", "", ""),
        config=found.config,
        instruction=order.instruction,
    )
