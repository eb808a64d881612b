"""A plugin for the engine: on a CPU, requests to the base model stay free of other requests' adapters.

vLLM marks a token of the base model with the LoRA index -1. Its GPU kernels skip such a token; the plain
torch operations of the CPU build (0.32.0) index with it, and so apply whatever adapter lies in the *last*
slot. A request to the base model that shares a step with a request to an adapter is answered with that
adapter's weights, under the base model's name (https://github.com/vllm-project/vllm/pull/48421, open).
vLLM calls `register` in each of its processes, by the entry point `vllm.general_plugins`.
"""

from collections.abc import Callable
from typing import Any

_PER_TOKEN = ("bgmv_shrink", "bgmv_expand", "bgmv_expand_slice")
_INDICES = 3  # inputs, weights, output, indices
_MARK = "turnout_skips_base_tokens"


def register() -> None:
    """Repair the CPU's LoRA operations; elsewhere, and a second time, nothing happens."""
    from vllm.platforms import current_platform  # noqa: PLC0415 - only the engine has vLLM

    if not current_platform.is_cpu():
        return
    from vllm.lora.ops.torch_ops import lora_ops  # noqa: PLC0415
    from vllm.lora.punica_wrapper import punica_cpu  # noqa: PLC0415

    for name in _PER_TOKEN:
        operation = getattr(lora_ops, name)
        if hasattr(operation, _MARK):
            continue
        repaired = skipping_base_tokens(operation)
        setattr(lora_ops, name, repaired)  # the prefill operations call these
        setattr(punica_cpu, name, repaired)


def skipping_base_tokens(operation: Callable[..., None]) -> Callable[..., None]:
    """Return the operation with the inputs of index -1 set to zero, so that nothing is added for them.

    `operation` takes (inputs, weights, output, indices, …), the inputs and indices by token.
    """

    def repaired(*arguments: Any, **options: Any) -> None:
        inputs, indices = arguments[0], arguments[_INDICES]
        real = (indices >= 0).to(inputs.dtype).unsqueeze(1)
        operation(
            inputs * real,
            *arguments[1:_INDICES],
            indices.clamp(min=0),
            *arguments[_INDICES + 1 :],
            **options,
        )

    setattr(repaired, _MARK, True)
    return repaired
