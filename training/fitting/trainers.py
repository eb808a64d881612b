"""The trainer for losses by the token; docs/decisions/0016 says why it is not TRL's."""

from typing import Any

import torch

from training.fitting.attention import LENGTHS
from training.fitting.checkpoints import WholeCheckpoints
from training.fitting.loss import IGNORED, has_plain_head, hidden_states_for_logits, nats
from training.fitting.sampling import GroupedByLength


class TokenTrainer(WholeCheckpoints):
    """Trains on the tokens that have labels, and computes logits for nothing else.

    The vocabulary's matrix is a quarter of a small model: on a CPU, logits of prompts that carry no loss
    would be a quarter of the time and most of the memory.
    """

    loss_is_scaled_for_ga = True

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)
        rows = self.train_dataset if train_dataset is None else train_dataset
        step_rows = self.args.train_batch_size * self.args.gradient_accumulation_steps
        return GroupedByLength([len(row["input_ids"]) for row in rows], step_rows, seed=self.args.seed)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the mean nats per labelled token (over all passes of a step when they are accumulated)."""
        total, count = self._nats(model, inputs)
        tokens = count if num_items_in_batch is None else num_items_in_batch
        loss = total / tokens
        if num_items_in_batch is not None and self.args.average_tokens_across_devices:
            loss = (
                loss * self.accelerator.num_processes
            )  # the count is that of all, and gradients are averaged
        if model.training and self.watch is not None:
            self.watch.seen.tokens += _real_tokens(inputs)
        return (loss, None) if return_outputs else loss

    def _nats(self, model: Any, inputs: dict[str, Any]) -> tuple[torch.Tensor, int]:
        given = dict(inputs)
        labels = given.pop("labels")[:, 1:]
        chosen = labels != IGNORED
        bare = self.accelerator.unwrap_model(model)
        if has_plain_head(bare):
            with hidden_states_for_logits(bare) as head:
                hidden = model(**given, use_cache=False).logits
            return nats(hidden[:, :-1][chosen], head, labels[chosen]), int(chosen.sum())
        # As indices, not as a count: a slice makes torch copy the vocabulary's matrix once a row.
        columns = chosen.any(dim=0).nonzero().squeeze(-1)
        logits = model(**given, use_cache=False, logits_to_keep=columns).logits[chosen[:, columns]]
        total = torch.nn.functional.cross_entropy(logits.float(), labels[chosen], reduction="sum")
        return total, int(chosen.sum())

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: Any = None,  # noqa: ARG002 - the library's signature
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Return the mean nats per labelled token of all validation rows, however they are batched.

        It draws no random numbers, so that a run with validations is the same run.
        """
        rows = self.eval_dataset if eval_dataset is None else eval_dataset
        model = self.model
        was_training = model.training
        model.eval()
        total, count = 0.0, 0
        size = self.args.per_device_eval_batch_size
        with torch.no_grad(), self.compute_loss_context_manager():
            for start in range(0, len(rows), size):
                batch = self._prepare_inputs(self.data_collator(rows[start : start + size]))
                part, tokens = self._nats(model, batch)
                total, count = total + float(part), count + tokens
        model.train(was_training)
        metrics = {f"{metric_key_prefix}_loss": total / max(count, 1)}
        self.log(dict(metrics))
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the number of tokens trained on so far, padding not counted."""
        tokens = {} if self.watch is None else {"tokens": self.watch.seen.tokens}
        super().log({**logs, **tokens}, start_time)


def _real_tokens(inputs: dict[str, Any]) -> int:
    if LENGTHS in inputs:
        return sum(inputs[LENGTHS])
    mask = inputs.get("attention_mask")
    return int(inputs["input_ids"].numel() if mask is None else mask.sum())
