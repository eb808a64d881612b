"""The base models with random weights of `make bench-training BENCH_ARGS="--shape …"`: the small one."""

from typing import Any

import pytest

from training.config import TrainConfig

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]


@pytest.fixture(scope="module")
def base() -> Any:
    """The small shape."""
    from loadtests.training.shapes import random_base

    return random_base("tiny")


def test_it_is_what_a_loaded_base_on_nf4_is(base: Any) -> None:
    """Every linear map of the layers is packed and has its scales; libraries are told that it is 4-bit."""
    import bitsandbytes

    packed = [module for module in base.model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    assert len(packed) == 2 * 7
    assert all(layer.weight.quant_state is not None for layer in packed)
    assert all(layer.weight.quant_state.quant_type == "nf4" for layer in packed)
    assert not any(layer.support_avx512bf16_for_cpu for layer in packed)
    assert base.model.is_loaded_in_4bit
    assert base.model.is_quantized
    assert not any(weight.requires_grad for weight in base.model.parameters())


def test_it_can_be_trained_on_and_every_process_gets_the_same(base: Any) -> None:
    """LoRA layers get a gradient through it; made again, it says the same."""
    import torch

    from loadtests.training.shapes import random_base
    from training.fitting.model import add_lora

    ids = torch.tensor([[5, 6, 7, 8]], device=base.model.device)
    with torch.no_grad():
        said, again = (one.model.eval()(input_ids=ids).logits for one in (base, random_base("tiny")))
    assert torch.equal(said, again)
    model = add_lora(base.model, TrainConfig(rank=4))
    model(input_ids=ids, labels=ids).loss.backward()
    gradients = [weight.grad for name, weight in model.named_parameters() if "lora_B" in name]
    assert len(gradients) == 2 * 7
    assert all(float(gradient.abs().max()) > 0 for gradient in gradients)
