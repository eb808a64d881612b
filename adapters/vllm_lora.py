"""vLLM's LoRA operations on a CPU: each adapter's tokens in one product, and none for the base model's.

vLLM marks a token of the base model with the LoRA index -1. Its GPU kernels skip such a token; the plain
torch operations of the CPU build (0.32.0) index with it, and so apply whatever adapter lies in the *last*
slot: a request to the base model that shares a step with a request to an adapter is answered with that
adapter's weights, under the base model's name (https://github.com/vllm-project/vllm/pull/48421, open).
They also copy an adapter's matrices, in float32, for every token of a prompt.

Here a run of tokens with the same adapter is one product in float32, and a run of the base model is left
out. Arguments are those of vLLM's operations: inputs (tokens, in), matrices (slots, 1, out, in), the output
(tokens, out), which is changed, and how the tokens are spread over the slots. The operations named `sgmv`
get that by run (starts, lengths, slots, three counts), those named `bgmv` a slot for each token.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch

Runs = Iterable[tuple[int, slice]]
"""The slot, -1 for the base model, and the tokens of each run."""


def repair() -> None:
    """Let vLLM's CPU wrapper use these operations. A second time nothing changes."""
    from vllm.lora.punica_wrapper import punica_cpu  # noqa: PLC0415 - only the engine has vLLM

    for operation in (
        sgmv_shrink, sgmv_expand, sgmv_expand_slice, bgmv_shrink, bgmv_expand, bgmv_expand_slice,
    ):  # fmt: skip
        setattr(punica_cpu, operation.__name__, operation)


def sgmv_shrink(inputs: torch.Tensor, matrices: torch.Tensor, output: torch.Tensor, *spread: Any) -> None:
    """Set the output to the inputs' products with A; the last argument is the scaling."""
    *by_run, scaling = spread
    _shrink(inputs, matrices, output, _runs(*by_run), scaling)


def bgmv_shrink(
    inputs: torch.Tensor,
    matrices: torch.Tensor,
    output: torch.Tensor,
    slots: torch.Tensor,
    scaling: float = 1.0,
) -> None:
    """As `sgmv_shrink`, with a slot for each token."""
    _shrink(inputs, matrices, output, _tokens(slots), scaling)


def sgmv_expand(inputs: torch.Tensor, matrices: torch.Tensor, output: torch.Tensor, *spread: Any) -> None:
    """Add the inputs' products with B to the output, or set it; the last argument says whether to add."""
    *by_run, add = spread
    _expand(inputs, matrices, output, _runs(*by_run), add=add)


def bgmv_expand(
    inputs: torch.Tensor,
    matrices: torch.Tensor,
    output: torch.Tensor,
    slots: torch.Tensor,
    add_inputs: bool = True,
) -> None:
    """As `sgmv_expand`, with a slot for each token."""
    _expand(inputs, matrices, output, _tokens(slots), add=add_inputs)


def sgmv_expand_slice(
    inputs: torch.Tensor, matrices: torch.Tensor, output: torch.Tensor, *spread: Any
) -> None:
    """As `sgmv_expand`, for some columns of the output: the first one and how many come before `add`."""
    *by_run, start, size, add = spread
    _expand(inputs, matrices, output[:, start : start + size], _runs(*by_run), add=add)


def bgmv_expand_slice(  # noqa: PLR0917 - vLLM's signature
    inputs: torch.Tensor,
    matrices: torch.Tensor,
    output: torch.Tensor,
    slots: torch.Tensor,
    start: int,
    size: int,
    add_inputs: bool = True,
) -> None:
    """As `sgmv_expand_slice`, with a slot for each token."""
    _expand(inputs, matrices, output[:, start : start + size], _tokens(slots), add=add_inputs)


def _runs(_starts: torch.Tensor, lengths: torch.Tensor, slots: torch.Tensor, *_counts: int) -> Iterator[Any]:
    start = 0
    for slot, length in zip(slots.tolist(), lengths.tolist(), strict=True):
        yield slot, slice(start, start + length)
        start += length


def _tokens(slots: torch.Tensor) -> Iterator[Any]:
    found, lengths = torch.unique_consecutive(slots, return_counts=True)
    return _runs(slots, lengths, found)


def _shrink(
    inputs: torch.Tensor, matrices: torch.Tensor, output: torch.Tensor, runs: Runs, scaling: float
) -> None:
    width = matrices.shape[-2]
    for slot, tokens in runs:
        if slot < 0:
            output[tokens, :width] = 0
        else:
            output[tokens, :width] = scaling * (inputs[tokens].float() @ _matrix(matrices, slot).T)


def _expand(
    inputs: torch.Tensor, matrices: torch.Tensor, output: torch.Tensor, runs: Runs, *, add: bool
) -> None:
    width = min(matrices.shape[-2], output.shape[1])  # model and adapter may be padded differently
    for slot, tokens in runs:
        here = output[tokens, :width]
        if slot >= 0:
            found = inputs[tokens].float() @ _matrix(matrices, slot)[:width].T
            here.copy_(found + here if add else found)
        elif not add:
            here.zero_()


def _matrix(matrices: torch.Tensor, slot: int) -> torch.Tensor:
    """Return a slot's (out, in) matrix in float32."""
    return matrices[slot].reshape(matrices.shape[-2:]).float()
