"""The engine plugin that keeps the base model's requests free of adapters on a CPU."""

import pytest

from adapters.vllm_plugin import skipping_base_tokens


@pytest.mark.slow
def test_tokens_of_the_base_model_get_no_adapter() -> None:
    """Plain operations apply the last slot to index -1; repaired they add nothing, and else do the same."""
    import torch
    from vllm.lora.ops.torch_ops import lora_ops

    torch.manual_seed(0)
    inputs, weights = torch.randn(3, 4), torch.randn(2, 1, 5, 4)
    indices = torch.tensor([0, -1, 1])
    plain, repaired = torch.zeros(3, 5), torch.zeros(3, 5)
    lora_ops.bgmv_shrink(inputs, weights, plain, indices, 2.0)
    skipping_base_tokens(lora_ops.bgmv_shrink)(inputs, weights, repaired, indices, 2.0)
    assert torch.equal(plain[[0, 2]], repaired[[0, 2]])
    assert torch.count_nonzero(repaired[1]) == 0

    base = torch.ones(3, 5)
    expanded, spared = base.clone(), base.clone()
    lora_ops.bgmv_expand(inputs, weights, expanded, indices, add_inputs=True)
    skipping_base_tokens(lora_ops.bgmv_expand)(inputs, weights, spared, indices, add_inputs=True)
    assert torch.equal(expanded[[0, 2]], spared[[0, 2]])
    assert torch.equal(spared[1], base[1])

    wide, kept = torch.ones(3, 9), torch.ones(3, 9)
    lora_ops.bgmv_expand_slice(inputs, weights, wide, indices, 2, 5, add_inputs=True)
    skipping_base_tokens(lora_ops.bgmv_expand_slice)(inputs, weights, kept, indices, 2, 5, add_inputs=True)
    assert torch.equal(wide[[0, 2]], kept[[0, 2]])
    assert torch.equal(kept[1], torch.ones(9))
