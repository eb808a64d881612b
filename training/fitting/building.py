"""From encoded rows and settings to a trainer, for each method."""

import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PrinterCallback, TrainerCallback, TrainingArguments
from trl import DPOConfig, KTOConfig

from training.config import TrainConfig
from training.data.rows import DataError
from training.fitting.collating import Collator, EndToEnd, items
from training.fitting.encoding import EncodedPair, EncodedRating, EncodedRow
from training.fitting.model import to_float32
from training.fitting.packing import drawn
from training.fitting.plan import Plan, plan_of
from training.fitting.template import Encoded, Template
from training.fitting.trainers import PairTrainer, RatingTrainer, TokenTrainer, pairs, ratings
from training.fitting.watching import OnStep, OnValidation, Watch

REFERENCE = "ref"
"""The adapter that TRL makes of what it starts from, to compare with."""

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
        """The rows of one pass in one process."""
        config = self.config
        world = int(os.environ.get("WORLD_SIZE", "1"))
        rows, left = divmod(config.batch_size, world * config.accumulation)
        if left or not rows:
            raise ValueError(
                f"--batch-size {config.batch_size} can't be shared by {world} processes with --accumulation "
                f"{config.accumulation}: take a multiple of {world * config.accumulation}"
            )
        return rows

    def arguments(self, rows: int) -> dict[str, Any]:
        """Return the arguments that every trainer gets for so many rows in an epoch."""
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
        case "dpo":
            trainer = _pair_trainer(given)
        case "kto":
            trainer = _rating_trainer(given)
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


def _pair_trainer(given: Given) -> Any:
    config = given.config
    rows = pairs(cast("Sequence[EncodedPair]", given.rows))
    held_out = pairs(cast("Sequence[EncodedPair]", given.validation)) if given.validation else None
    trainer = PairTrainer(
        model=given.model,
        args=DPOConfig(
            **given.arguments(len(rows)),
            beta=config.beta,
            max_length=None,  # what is too long was left out, not cut
            disable_dropout=config.dropout == 0,
        ),
        train_dataset=rows,
        eval_dataset=held_out,
        processing_class=given.template.tokenizer,
        callbacks=given.callbacks,
    )
    return _with_reference(trainer, given)


def _rating_trainer(given: Given) -> Any:
    config = given.config
    rows = list(cast("Sequence[EncodedRating]", given.rows))
    liked = sum(row.liked for row in rows)
    disliked = len(rows) - liked
    if not liked or not disliked:
        raise DataError(
            f"{liked} rated answers are liked and {disliked} are not: kto learns from the difference and "
            "needs both; with liked ones alone use --method sft"
        )
    random.Random(config.seed).shuffle(rows)  # noqa: S311 - a reproducible order, no secret
    train = ratings(rows, given.pass_rows)
    held_out = given.validation
    trainer = RatingTrainer(
        model=given.model,
        args=KTOConfig(
            **given.arguments(len(train)),
            beta=config.beta,
            max_length=None,
            disable_dropout=config.dropout == 0,
            # The rarer kind weighs as much as the other: the ratio of 1 that the paper's bounds begin at.
            desirable_weight=max(1.0, disliked / liked),
            undesirable_weight=max(1.0, liked / disliked),
        ),
        train_dataset=train,
        eval_dataset=ratings(cast("Sequence[EncodedRating]", held_out), given.pass_rows)
        if held_out
        else None,
        processing_class=given.template.tokenizer,
        callbacks=given.callbacks,
    )
    return _with_reference(trainer, given)


def _with_reference(trainer: Any, given: Given) -> Any:
    """Give the trainer what it compares with, and no tokenizer to copy into every checkpoint.

    TRL always makes a copy of the adapter. A new adapter adds nothing to the base, so the base with the
    adapter off is the same and costs less; of a version that is gone on from, the copy is needed, in float32.
    """
    trainer.processing_class = None
    model = trainer.model
    if given.config.parent is None:
        model.delete_adapter(REFERENCE)
        return trainer
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if f".{REFERENCE}." in name:
                own = model.get_parameter(name.replace(f".{REFERENCE}.", ".default."))
                weight.requires_grad_(requires_grad=False)
                weight.data = own.detach().to(torch.float32).clone()
    return trainer
