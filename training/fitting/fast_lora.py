"""LoRA layers that compute in the base model's precision, with one pass over the activations.

PEFT casts a layer's input to the adapter's float32, multiplies there, and casts back: on a CPU that is more
time than the base layer's own product, and the copy is kept for the backward pass. Here the adapter's float32
weights are rounded for the product, as mixed precision does and as the engine will, and keep their float32
in the optimizer. Frozen 4-bit weights are unpacked in every pass, or once where there is room.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import bitsandbytes
import torch
from peft.tuners.lora import LoraLayer
from torch.nn import functional

_DENSE = "_turnout_dense"


class _LoraLinear(torch.autograd.Function):  # type: ignore[misc]  # torch is skipped by the type checker
    """base(x) + scaling · B A drop(x), where `dropped` is None when nothing is dropped."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd's own signature is (ctx, *args)
        ctx: Any,
        x: torch.Tensor,
        dropped: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        base: Any,
        scaling: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        given = rows if dropped is None else dropped.reshape(-1, x.shape[-1])
        low = given @ a.to(x.dtype).T
        answer = functional.linear(rows, dense_weight(base, x.dtype), base.bias)
        answer.addmm_(low, (b * scaling).to(x.dtype).T)
        ctx.save_for_backward(given, low, a, b)
        ctx.base, ctx.scaling, ctx.drops, ctx.shape = base, scaling, dropped is not None, x.shape
        return answer.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        given, low, a, b = ctx.saved_tensors
        gradient = outer[0].reshape(-1, outer[0].shape[-1])
        kind = gradient.dtype
        at_low = gradient @ (b * ctx.scaling).to(kind)
        for_a = (at_low.T @ given).to(a.dtype)
        for_b = (gradient.T @ low).to(b.dtype) * ctx.scaling
        for_x = for_dropped = None
        if ctx.needs_input_grad[0]:
            for_x = gradient @ dense_weight(ctx.base, kind)
            if not ctx.drops:
                for_x.addmm_(at_low, a.to(kind))
            for_x = for_x.view(ctx.shape)
        if ctx.needs_input_grad[1]:
            for_dropped = (at_low @ a.to(kind)).view(ctx.shape)
        return for_x, for_dropped, for_a, for_b, None, None


def dense_weight(base: Any, dtype: torch.dtype) -> torch.Tensor:
    """Return a frozen linear layer's weight as numbers: unpacked now, or what was unpacked before."""
    kept: torch.Tensor | None = getattr(base, _DENSE, None)
    if kept is None:
        kept = unpacked(base)
    return kept.to(dtype)


def unpacked(base: Any) -> torch.Tensor:
    """Return the weight of a linear layer, 4-bit or not, as the numbers that it stands for."""
    weight: torch.Tensor = base.weight
    if not isinstance(base, bitsandbytes.nn.Linear4bit):
        return weight
    found: torch.Tensor = bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
    return found


def _forward(self: Any, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    active = [name for name in self.active_adapters if name in self.lora_A]
    if self.disable_adapters and not args and not kwargs:
        answer: torch.Tensor = functional.linear(
            x, dense_weight(self.base_layer, x.dtype), self.base_layer.bias
        )
        return answer
    if self.disable_adapters or self.merged or len(active) != 1 or args or kwargs:
        other: torch.Tensor = type(self).forward(self, x, *args, **kwargs)
        return other
    (name,) = active
    dropout = self.lora_dropout[name]
    drops = self.training and not isinstance(dropout, torch.nn.Identity)
    found: torch.Tensor = _LoraLinear.apply(
        x,
        dropout(x) if drops else None,
        self.lora_A[name].weight,
        self.lora_B[name].weight,
        self.base_layer,
        self.scaling[name],
    )
    return found


def lora_layers(model: Any) -> list[Any]:
    """Return the LoRA layers that are plain enough to be computed here."""
    linear = (torch.nn.Linear, bitsandbytes.nn.Linear4bit)
    return [
        module
        for module in model.modules()
        if isinstance(module, LoraLayer)
        and type(module.base_layer) in linear
        and not module.lora_variant
        and not any(module.lora_bias.values())
        and not getattr(module, "fan_in_fan_out", False)
    ]


@contextmanager
def fast_lora(model: Any, *, unpack: bool) -> Iterator[None]:
    """Compute the model's LoRA layers as above for the length of the block."""
    layers = lora_layers(model)
    try:
        for layer in layers:
            layer.forward = MethodType(_forward, layer)
            if unpack and isinstance(layer.base_layer, bitsandbytes.nn.Linear4bit):
                base = layer.base_layer
                setattr(base, _DENSE, unpacked(base).to(base.compute_dtype))
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)
            layer.base_layer.__dict__.pop(_DENSE, None)
