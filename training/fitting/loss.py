"""The loss on chosen tokens, without ever holding all of their logits.

The logits of 1,000 tokens over 49,152 words take 200 MB in float32, and autograd keeps several such. Here
they are made by the slice; each slice leaves only its sum and its gradient on the hidden states, as in Liger
Kernel (Hsu and others, 2024, arXiv 2410.10989). The head's weights are frozen, so they need no gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional

from training.fitting.memory import SLICE

IGNORED = -100
"""The label of a token that has no loss."""


class _SlicedCrossEntropy(torch.autograd.Function):  # type: ignore[misc]  # torch is skipped by the type checker
    @staticmethod
    def forward(
        ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, targets: torch.Tensor
    ) -> torch.Tensor:
        wanted = ctx.needs_input_grad[0]
        gradient = torch.empty_like(hidden) if wanted else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, hidden.shape[0], SLICE):
            part, labels = hidden[start : start + SLICE], targets[start : start + SLICE]
            logits = functional.linear(part, weight, bias).float()
            norms = logits.logsumexp(-1, keepdim=True)
            total += (norms.squeeze(-1) - logits.gather(-1, labels[:, None]).squeeze(-1)).sum()
            if gradient is not None:
                shares = logits.sub_(norms).exp_()
                shares.scatter_add_(-1, labels[:, None], shares.new_full((len(labels), 1), -1.0))
                gradient[start : start + SLICE] = shares.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return (None if gradient is None else gradient * outer[0].to(gradient.dtype)), None, None, None


def nats(hidden: torch.Tensor, head: Any, targets: torch.Tensor) -> torch.Tensor:
    """Return the summed cross entropy of (tokens, width) hidden states under a linear head, in float32."""
    if head.weight.requires_grad:
        logits = functional.linear(hidden, head.weight, head.bias).float()
        return functional.cross_entropy(logits, targets, reduction="sum")
    found: torch.Tensor = _SlicedCrossEntropy.apply(hidden, head.weight, head.bias, targets)
    return found


def has_plain_head(model: Any) -> bool:
    """Whether a model's logits are its head's output and nothing more: not scaled, not capped."""
    config = model.config.get_text_config()
    special = (
        "final_logit_softcapping", "logit_scale", "logits_scaling", "lm_head_multiplier", "output_multiplier",
    )  # fmt: skip
    head = model.get_output_embeddings()
    plain = isinstance(head, torch.nn.Linear) and type(head).forward is torch.nn.Linear.forward
    return plain and all(getattr(config, name, None) in (None, 1, 1.0) for name in special)


@contextmanager
def hidden_states_for_logits(model: Any) -> Iterator[Any]:
    """Let the model give its last hidden states where it gives logits; yield its head.

    The model is still called as a whole, which is what a wrapper for several processes has to see.
    """
    head = model.get_output_embeddings()
    head.forward = _as_it_is
    try:
        yield head
    finally:
        del head.forward


def _as_it_is(hidden: torch.Tensor) -> torch.Tensor:
    return hidden
