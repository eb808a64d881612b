"""Attention for rows that are put end to end: each document sees itself alone, and no mask is made.

transformers' own way, a block mask from the positions, computes every pair of tokens of the whole row and
then throws most of them away; and with any mask given beside it, even one of ones, documents see each other.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv

NAME = "turnout_documents"
LENGTHS = "document_lengths"
"""The keyword that carries the documents' lengths from the batch to the attention."""

SHORT = 128
"""Up to so many tokens a CPU computes attention sooner in float32: its kernel's backward pass in bfloat16 is
slow, and copies of so few tokens are small."""


def documents_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    dropout: float = 0.0,
    scaling: float | None = None,
    document_lengths: list[int],
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Return causal attention within each document of one row.

    Queries, keys and values are (1, heads, tokens, width); the answer is (1, tokens, heads, width).
    """
    if attention_mask is not None or query.shape[0] != 1:
        raise ValueError("documents that are put end to end come as one row and without a mask")
    groups = getattr(module, "num_key_value_groups", 1)
    key, value = repeat_kv(key, groups), repeat_kv(value, groups)
    parts = zip(*(each.split(document_lengths, dim=2) for each in (query, key, value)), strict=True)
    seen = [_causal(part, dropout=dropout, scaling=scaling) for part in parts]
    return torch.cat(seen, dim=2).transpose(1, 2).contiguous(), None


def _causal(part: tuple[torch.Tensor, ...], *, dropout: float, scaling: float | None) -> torch.Tensor:
    given = part[0].dtype
    if part[0].device.type == "cpu" and part[0].shape[2] <= SHORT:
        part = tuple(each.float() for each in part)
    answer = torch.nn.functional.scaled_dot_product_attention(
        *part, dropout_p=dropout, is_causal=True, scale=scaling
    )
    return answer.to(given)


def can_be_apart(model: Any, longest: int) -> bool:
    """Whether plain causal attention is all that this model does to `longest` tokens or fewer."""
    config = model.config.get_text_config()
    if config._attn_implementation != "sdpa":  # noqa: SLF001 - transformers has no public name
        return False
    if getattr(config, "attn_logit_softcapping", None) or getattr(config, "attention_chunk_size", None):
        return False
    kinds = set(getattr(config, "layer_types", None) or ())
    window = getattr(config, "sliding_window", None)
    return kinds <= {"full_attention", "sliding_attention"} and (window is None or window >= longest)


@contextmanager
def documents_apart(model: Any) -> Iterator[None]:
    """Let the model's attention be `documents_attention` for the length of the block."""
    AttentionInterface.register(NAME, documents_attention)
    config = model.config.get_text_config()
    before = config._attn_implementation  # noqa: SLF001 - transformers has no public name
    config._attn_implementation = NAME  # noqa: SLF001
    try:
        yield
    finally:
        config._attn_implementation = before  # noqa: SLF001
