"""The engine's 4-bit weights on a CPU: unpacked once where there is memory, and multiplied as the CPU can.

vllm-bnb-plugin (0.0.3) unpacks a layer's weights at every step, which takes most of a step on a CPU. What is
kept here are the same numbers, so that answers are still those of the 4-bit weights. Where products in
bfloat16 are slow (`adapters.machine`) the weights are kept in float32, and the product is rounded.
"""

import os
from functools import wraps
from typing import Any

import torch
from torch.nn import functional

from adapters.machine import all_memory, free_memory, multiplies_bfloat16

UNPACK = "TURNOUT_UNPACK_WEIGHTS"
"""The variable of the engine's environment: `auto`, `always` or `never`."""

STAYS_FREE = 0.25
"""With `auto` layers are unpacked while this share of all memory stays free."""

_DENSE = "_turnout_dense"


def repair() -> None:
    """Let the linear layers of 4-bit weights keep them unpacked, unless the environment says `never`."""
    from vllm_bnb_plugin.quantization.linear import BitsAndBytesLinearMethod  # noqa: PLC0415 - the engine's

    wish = os.environ.get(UNPACK, "auto")
    packed = BitsAndBytesLinearMethod._apply_4bit_weight  # noqa: SLF001 - the plugin has no public name
    if wish != "never" and not hasattr(packed, "__wrapped__"):
        BitsAndBytesLinearMethod._apply_4bit_weight = keeping_unpacked(packed, always=wish == "always")  # noqa: SLF001


def keeping_unpacked(packed: Any, *, always: bool) -> Any:
    """Return a method (self, layer, x, bias) that multiplies with unpacked weights; else it is `packed`."""
    dtype = torch.bfloat16 if multiplies_bfloat16() else torch.float32

    @wraps(packed)
    def applied(
        self: Any, layer: torch.nn.Module, x: torch.Tensor, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        dense = _dense(layer, dtype, always=always)
        if dense is None:
            found: torch.Tensor = packed(self, layer, x, bias)
            return found
        return functional.linear(x.to(dtype), dense, None if bias is None else bias.to(dtype)).to(x.dtype)

    return applied


def _dense(layer: torch.nn.Module, dtype: torch.dtype, *, always: bool) -> torch.Tensor | None:
    """Return a layer's (out, in) weights as numbers, or None where there is too little memory for them.

    That is decided once for each layer: when the engine warms up, before it serves.
    """
    if not hasattr(layer, _DENSE):
        setattr(layer, _DENSE, _unpacked(layer.weight, dtype, always=always))
    found: torch.Tensor | None = getattr(layer, _DENSE)
    return found


def _unpacked(weight: Any, dtype: torch.dtype, *, always: bool) -> torch.Tensor | None:
    from bitsandbytes.functional import dequantize_4bit  # noqa: PLC0415 - the engine's

    states, starts = weight.bnb_quant_state, weight.bnb_shard_offsets
    size = sum(state.shape.numel() for state in states.values()) * dtype.itemsize
    if not always and free_memory() - size < STAYS_FREE * all_memory():
        return None
    shards = [
        dequantize_4bit(weight.data[starts[part] : starts[part + 1]], states[part]).to(dtype)
        for part in range(len(states))
    ]
    return torch.cat(shards)
