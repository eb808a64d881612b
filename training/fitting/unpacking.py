"""4-bit weights that are unpacked once for a while, instead of in every pass, for a model that only answers.

bitsandbytes unpacks a layer's weights for each product. For each token of an answer that is most of a pass on
a CPU. The numbers are those that an engine multiplies by, rounded to bfloat16; bitsandbytes rounds them in
bfloat16 too, and in float32 not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import bitsandbytes
import torch
from torch.nn import functional

from training.fitting.fast_lora import unpacked
from training.fitting.room import free_bytes

SPARE = 0.5
"""The share of the free memory that the unpacked weights may take."""

_WEIGHT = "_turnout_unpacked"


@contextmanager
def unpacked_while_judged(model: Any) -> Iterator[None]:
    """Keep a model's 4-bit weights unpacked for the length of the block, where they fit into memory."""
    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    layers = [layer for layer in layers if "forward" not in vars(layer)]
    if sum(map(_bytes, layers)) > SPARE * free_bytes():
        layers = []
    try:
        for layer in layers:
            setattr(layer, _WEIGHT, unpacked(layer).to(_dtype(layer)))
            layer.forward = MethodType(_forward, layer)
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
            layer.__dict__.pop(_WEIGHT, None)


def _dtype(layer: Any) -> torch.dtype:
    found: torch.dtype = layer.compute_dtype or layer.weight.quant_state.dtype
    return found


def _bytes(layer: Any) -> int:
    count: int = layer.weight.quant_state.shape.numel() * _dtype(layer).itemsize
    return count


def _forward(self: Any, x: torch.Tensor) -> torch.Tensor:
    weight = getattr(self, _WEIGHT)
    bias = None if self.bias is None else self.bias.to(weight.dtype)
    return functional.linear(x.to(weight.dtype), weight, bias).to(x.dtype)
