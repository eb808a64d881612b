"""From encoded rows and settings to a trainer, for each method."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments

from training.config import TrainConfig
from training.fitting.collating import Collator, EndToEnd, items
from training.fitting.encoding import EncodedRow
from training.fitting.model import to_float32
from training.fitting.packing import drawn
from training.fitting.plan import Plan, plan_of
from training.fitting.template import Encoded, Template
from training.fitting.trainers import TokenTrainer
from training.fitting.watching import OnStep, OnValidation, Watch
from training.fitting.world import forget_leftovers, world

REFERENCE = "ref"
"""The adapter that preferences are compared with, where it is not the base."""

PARTS = 10
"""Checkpoints, and validations where patience asks for them, in a run."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a trainer is built from."""

    model: Any
    rows: Sequence[EncodedRow]
    validation: Sequence[EncodedRow]
    plan: Plan
    template: Template
    scratch: Path
    callbacks: list[TrainerCallback]
    checkpoints: bool

    @property
    def config(self) -> TrainConfig:
        """The settings."""
        return self.plan.config

    @property
    def pass_rows(self) -> int:
        """The rows of one pass in one process.

        Raises:
            ValueError: the rows of a step can't be shared out so.
        """
        config = self.config
        group = world()
        rows, left = divmod(config.batch_size, group * config.accumulation)
        if left or not rows:
            raise ValueError(
                f"--batch-size {config.batch_size} can't be shared by {group} processes with --accumulation "
                f"{config.accumulation}: take a multiple of {group * config.accumulation}"
            )
        if config.method == "kto" and rows < 2:
            # Its reference point comes from answers exchanged within a pass (Ethayarajh and others, 2024).
            raise ValueError(
                f"--batch-size {config.batch_size} gives each of {group} processes one row in a pass, and "
                f"kto needs two: take {2 * group * config.accumulation} or more"
            )
        return rows

    def arguments(self, rows: int) -> dict[str, Any]:
        """Return the arguments that every trainer gets for so many rows in an epoch."""
        forget_leftovers()
        config, plan = self.config, self.plan
        steps = math.ceil(config.epochs * math.ceil(rows / config.batch_size))
        part = max(1, steps // PARTS)
        every = (config.eval_steps or (part if config.patience else 0)) if self.validation else 0
        cuda = torch.cuda.is_available()
        return {
            "output_dir": str(self.scratch),
            "max_steps": steps,
            "per_device_train_batch_size": self.pass_rows,
            "per_device_eval_batch_size": self.pass_rows,
            "gradient_accumulation_steps": config.accumulation,
            "learning_rate": config.learning_rate,
            "lr_scheduler_type": config.schedule,
            "warmup_steps": math.ceil(steps * config.warmup_share),
            "weight_decay": config.weight_decay,
            "max_grad_norm": config.max_grad_norm,
            "optim": "adamw_torch",
            "seed": config.seed,
            "data_seed": config.seed,
            # The base computes in bfloat16 by itself; what is trained stays float32.
            "bf16": config.full and cuda,
            "gradient_checkpointing": plan.checkpointing,
            "gradient_checkpointing_kwargs": {"use_reentrant": False} if plan.checkpointing else None,
            "use_cpu": not cuda,
            "dataloader_pin_memory": cuda,
            "remove_unused_columns": False,
            "eval_strategy": "steps" if every else "no",
            "eval_steps": every or None,
            "save_strategy": "steps" if self.checkpoints else "no",
            "save_steps": part,
            "logging_steps": 1,
            "logging_nan_inf_filter": False,
            "report_to": "none",
            "disable_tqdm": True,
        }


def build_trainer(
    model: Any,
    rows: Sequence[EncodedRow],
    validation: Sequence[EncodedRow],
    config: TrainConfig,
    *,
    template: Template,
    scratch: Path,
    on_step: OnStep,
    on_validation: OnValidation | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    checkpoints: bool = True,
) -> Any:
    """Return a trainer whose trainable weights are float32, whatever building it did to them.

    With `checkpoints` it leaves whole ones in `scratch`, from which `fit` resumes. `on_step` is told the
    step, the number of all steps and the latest loss; `on_validation` a step and its validation loss.

    Raises:
        ValueError: the rows or the settings can't be trained with.
    """
    watch = Watch(model, patience=config.patience, on_step=on_step, on_validation=on_validation)
    plan = plan_of(model, rows, config)
    given = Given(
        model, rows, validation, plan, template, scratch, [watch, *callbacks], checkpoints=checkpoints
    )
    match config.method:
        case "dpo" | "kto":
            from training.fitting import preferences  # noqa: PLC0415 - TRL takes seconds to import

            builders = {"dpo": preferences.pair_trainer, "kto": preferences.rating_trainer}
            trainer = builders[config.method](given)
        case _:
            trainer = _token_trainer(given)
    trainer.watch, trainer.plan = watch, plan
    trainer.remove_callback(PrinterCallback)
    to_float32(trainer.model)
    return trainer


def _token_trainer(given: Given) -> Any:
    config, apart = given.config, given.plan.apart
    rows = items(mixed(given.rows, config), config, packed=apart)
    trainer = TokenTrainer(
        model=given.model,
        args=TrainingArguments(
            **given.arguments(len(rows)),
            label_names=["labels"],
            # Without padding every order costs the same, and a random one makes for the better steps.
            train_sampling_strategy="random" if apart else "group_by_length",
        ),
        train_dataset=rows,
        eval_dataset=items(given.validation, config, packed=apart) or None,
        data_collator=EndToEnd() if apart else Collator(given.template.pad_id),
        callbacks=given.callbacks,
    )
    trainer.model_accepts_loss_kwargs = True  # the loss is ours, and is over all passes of a step
    return trainer


def mixed(rows: Sequence[EncodedRow], config: TrainConfig) -> Sequence[EncodedRow]:
    """Return the rows as often as their weights say; all of them once where the weights are equal."""
    weights = [row.weight if isinstance(row, Encoded) else 1.0 for row in rows]
    if len(set(weights)) < 2:
        return rows
    return [rows[number] for number in drawn(weights, len(rows), seed=config.seed)]
