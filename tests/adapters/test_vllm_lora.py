"""The engine's LoRA operations on a CPU: the same products as vLLM's own, and none for the base model."""

from typing import Any

import pytest

TOKENS = [0, 0, -1, 1, 1, 1, -1, 0]
"""Slots of eight tokens: runs of two adapters, and of the base model between them."""


def by_run(slots: Any) -> tuple[Any, ...]:
    """Return what vLLM gives its operations by run: starts, lengths, slots and three counts."""
    import torch

    found, lengths = torch.unique_consecutive(slots, return_counts=True)
    return lengths.cumsum(0) - lengths, lengths, found, len(found), int(lengths.max()), len(slots)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [TOKENS, [1], [-1, -1], [0, 1, 0, 1]])
@pytest.mark.parametrize("add", [True, False])
def test_tokens_of_the_base_model_get_no_adapter_and_others_their_own(tokens: list[int], add: bool) -> None:
    """As vLLM's plain operations where they are right; where they apply the last slot, nothing."""
    import torch
    from vllm.lora.ops.torch_ops import lora_ops

    from adapters import vllm_lora

    torch.manual_seed(0)
    slots = torch.tensor(tokens)
    real, count = slots >= 0, len(tokens)
    inputs = torch.randn(count, 6)
    for name, width, columns in (
        ("shrink", 5, ()),
        ("expand", 5, ()),
        ("expand", 9, ()),
        ("expand_slice", 9, (2, 5)),
    ):
        matrices = torch.randn(2, 1, 5, 6)
        last = {"scaling": 0.5} if name == "shrink" else {"add_inputs": add}
        before = torch.randn(count, width)
        plain, per_token, per_run = before.clone(), before.clone(), before.clone()
        getattr(lora_ops, f"bgmv_{name}")(inputs, matrices, plain, slots, *columns, **last)
        getattr(vllm_lora, f"bgmv_{name}")(inputs, matrices, per_token, slots, *columns, **last)
        getattr(vllm_lora, f"sgmv_{name}")(
            inputs, matrices, per_run, *by_run(slots), *columns, *last.values()
        )
        assert torch.equal(per_token, per_run)
        torch.testing.assert_close(per_run[real], plain[real])
        kept = before[~real].clone()
        if name == "shrink" or not add:
            first, size = columns or (0, 5)
            kept[:, first : first + size] = 0
        assert torch.equal(per_run[~real], kept)


@pytest.mark.slow
def test_rounded_weights_are_multiplied_in_float32() -> None:
    """As on a GPU: bfloat16 in and out, and nothing rounded between the two products."""
    import torch

    from adapters import vllm_lora

    torch.manual_seed(0)
    slots = by_run(torch.tensor([0, 0]))
    inputs = torch.randn(2, 64, dtype=torch.bfloat16)
    a = torch.randn(1, 1, 8, 64, dtype=torch.bfloat16)
    b = torch.randn(1, 1, 32, 8, dtype=torch.bfloat16)
    low, out = torch.zeros(2, 8), torch.ones(2, 32, dtype=torch.bfloat16)
    vllm_lora.sgmv_shrink(inputs, a, low, *slots, 2.0)
    vllm_lora.sgmv_expand(low, b, out, *slots, True)
    exact = 1 + 2 * (inputs.double() @ a[0, 0].double().T) @ b[0, 0].double().T
    torch.testing.assert_close(out, exact.to(torch.bfloat16), rtol=0.01, atol=0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of vLLM's own imports
def test_the_engine_on_a_cpu_gets_them_once() -> None:
    """The wrapper calls these operations after the plugin was registered, also twice."""
    from vllm.lora.punica_wrapper import punica_cpu
    from vllm.platforms import current_platform

    from adapters import vllm_lora, vllm_plugin

    if not current_platform.is_cpu():
        pytest.skip("the installed vLLM is not the CPU build")
    for _ in range(2):
        vllm_plugin.register()
        assert punica_cpu.sgmv_shrink is vllm_lora.sgmv_shrink
        assert punica_cpu.bgmv_expand_slice is vllm_lora.bgmv_expand_slice
