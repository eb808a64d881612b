"""One training run on encoded rows: the loss is on the answer alone, weights and moments are float32."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from training.config import TrainConfig
from training.fitting.model import to_float32
from training.fitting.template import Encoded

IGNORED = -100
"""The label of a token that has no loss."""

OnStep = Callable[[int, int, float | None], None]


@dataclass(frozen=True, slots=True)
class Fit:
    """What training did. Losses are mean nats per answer token; None where there was no validation row."""

    steps: int
    seconds: float
    loss: float
    validation_before: float | None
    validation_after: float | None


class Collator:
    """Rows to one padded batch whose labels cover the answers only."""

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
        """Pad on the left to the longest row, so that the answers end together."""
        width = max(len(row["input_ids"]) for row in rows)
        ids = torch.full((len(rows), width), self._pad_id)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        labels = torch.full((len(rows), width), IGNORED)
        for number, row in enumerate(rows):
            whole, answer = row["input_ids"], row["answer_tokens"]
            ids[number, -len(whole) :] = torch.tensor(whole)
            mask[number, -len(whole) :] = 1
            labels[number, -answer:] = ids[number, -answer:]
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}


class AnswerTrainer(Trainer):  # type: ignore[misc]  # transformers has no types here
    """Trains on the answers, and computes logits for nothing else.

    The vocabulary's matrix is a quarter of a small model: on a CPU, logits of prompts that carry no loss
    would be a quarter of the time and most of the memory.
    """

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the mean nats per answer token (over all batches of a step when they are accumulated)."""
        labels = inputs["labels"]
        longest = int((labels != IGNORED).sum(dim=1).max())
        outputs = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            # As indices, not as a count: a slice makes torch copy the vocabulary's matrix once a row.
            logits_to_keep=torch.arange(labels.shape[1] - longest - 1, labels.shape[1], device=labels.device),
            use_cache=False,
        )
        wanted = labels[:, -longest:].reshape(-1)
        logits = outputs.logits[:, :-1].reshape(wanted.numel(), -1).float()
        total = torch.nn.functional.cross_entropy(logits, wanted, ignore_index=IGNORED, reduction="sum")
        tokens = (wanted != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        loss = total / tokens
        return (loss, outputs) if return_outputs else loss


class _Report(TrainerCallback):  # type: ignore[misc]  # transformers has no types here
    def __init__(self, on_step: OnStep) -> None:
        self._on_step = on_step
        self._loss: float | None = None

    def on_log(self, _args: Any, _state: Any, _control: Any, logs: Any = None, **_: Any) -> None:
        """Keep the latest loss."""
        self._loss = (logs or {}).get("loss", self._loss)

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        """Report one optimizer step."""
        self._on_step(state.global_step, state.max_steps, self._loss)


def build_trainer(
    model: Any,
    rows: Sequence[Encoded],
    validation: Sequence[Encoded],
    config: TrainConfig,
    *,
    pad_id: int,
    scratch: Path,
    on_step: OnStep,
) -> Trainer:
    """Return a trainer whose trainable weights are float32, whatever building it did to them."""
    steps = math.ceil(config.epochs * math.ceil(len(rows) / config.batch_size))
    arguments = TrainingArguments(
        output_dir=str(scratch),
        max_steps=steps,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=math.ceil(steps * config.warmup_share),
        weight_decay=0.0,
        max_grad_norm=1.0,
        optim="adamw_torch",
        seed=config.seed,
        train_sampling_strategy="group_by_length",
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        label_names=["labels"],
        save_strategy="no",
        logging_steps=5,
        report_to="none",
        disable_tqdm=True,
    )
    trainer = AnswerTrainer(
        model=model,
        args=arguments,
        train_dataset=_rows(rows),
        eval_dataset=_rows(validation) if validation else None,
        data_collator=Collator(pad_id),
        callbacks=[_Report(on_step)],
    )
    trainer.remove_callback(PrinterCallback)
    to_float32(trainer.model)
    return trainer


def fit(trainer: Trainer) -> Fit:
    """Train to the end, with the validation loss before and after.

    Raises:
        ValueError: the loss is no longer a number; the learning rate is too high.
    """
    started = time.monotonic()
    before = _validation_loss(trainer)
    done = trainer.train()
    after = _validation_loss(trainer)
    if not math.isfinite(done.training_loss):
        raise ValueError("the loss is not a number any more; train with a lower --learning-rate")
    return Fit(done.global_step, time.monotonic() - started, float(done.training_loss), before, after)


def _validation_loss(trainer: Trainer) -> float | None:
    if trainer.eval_dataset is None:
        return None
    return float(trainer.evaluate()["eval_loss"])


def _rows(rows: Sequence[Encoded]) -> list[dict[str, Any]]:
    # The sampler that groups rows by length looks for `input_ids`.
    return [{"input_ids": row.prompt + row.completion, "answer_tokens": len(row.completion)} for row in rows]
