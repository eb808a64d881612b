"""The trainers for preferences: TRL's, on token ids that we made, against the reference that is meant.

docs/decisions/0016 says what is TRL's and what is not.
"""

import random
from collections.abc import Sequence
from typing import Any, cast

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer, KTOConfig, KTOTrainer

from training.data.rows import DataError
from training.fitting.building import REFERENCE, Given
from training.fitting.checkpoints import WholeCheckpoints
from training.fitting.encoding import EncodedPair, EncodedRating


class _OwnIds:
    """Rows that we tokenized ourselves: TRL would render the template again, and cut what is too long."""

    def _prepare_dataset(self, dataset: Dataset, *_: Any, **__: Any) -> Dataset:
        return dataset

    def create_model_card(self, *_: Any, **__: Any) -> None:
        """Write no card into checkpoints."""

    def _send_telemetry(self) -> None:
        """Tell nobody."""


class PairTrainer(_OwnIds, DPOTrainer, WholeCheckpoints):  # type: ignore[misc]  # TRL has no types here
    """TRL's DPO on our token ids, with whole checkpoints."""


class RatingTrainer(_OwnIds, KTOTrainer, WholeCheckpoints):  # type: ignore[misc]  # TRL has no types here
    """TRL's KTO on our token ids, with whole checkpoints."""


def pairs(rows: Sequence[EncodedPair]) -> Dataset:
    """Return pairs as TRL's DPO wants them."""
    return Dataset.from_dict(
        {
            "prompt_ids": [row.prompt for row in rows],
            "chosen_ids": [row.chosen for row in rows],
            "rejected_ids": [row.rejected for row in rows],
        }
    )


def ratings(rows: Sequence[EncodedRating], pass_rows: int) -> Dataset:
    """Return rated answers as TRL's KTO wants them, each with another's answer from the same pass.

    How likely those are beside the reference is the point from which liking is measured; they are rotated by
    one within each pass, which is what TRL does and why it trains in the order given. A last row that
    would be alone in its pass, with no other answer to take, is left out.
    """
    kept = rows if len(rows) % pass_rows != 1 or len(rows) == 1 else rows[:-1]
    others: list[list[int]] = []
    for start in range(0, len(kept), pass_rows):
        answers = [row.completion for row in kept[start : start + pass_rows]]
        others += [answers[-1], *answers[:-1]]
    return Dataset.from_dict(
        {
            "prompt_ids": [row.prompt for row in kept],
            "completion_ids": [row.completion for row in kept],
            "KL_completion_ids": others,
            "label": [row.liked for row in kept],
        }
    )


def pair_trainer(given: Given) -> Any:
    """Return a trainer on pairs of a better and a worse answer."""
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


def rating_trainer(given: Given) -> Any:
    """Return a trainer on rated answers.

    Raises:
        DataError: there are only liked ones, or none.
    """
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
    for module in model.modules():
        drops = getattr(module, "lora_dropout", {})
        if REFERENCE in drops:  # in training it would be measured with weights missing
            drops[REFERENCE] = torch.nn.Identity()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if f".{REFERENCE}." in name:
                own = model.get_parameter(name.replace(f".{REFERENCE}.", ".default."))
                weight.requires_grad_(requires_grad=False)
                weight.data = own.detach().to(torch.float32).clone()
    return trainer
