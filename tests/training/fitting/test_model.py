"""The quantized base and the adapter's files, on a base of two layers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.inspect import inspect
from training.config import TrainConfig

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]


@pytest.fixture
def base(tiny_base: Path) -> Any:
    """The base, freshly loaded."""
    from training.fitting.model import load_base

    return load_base(str(tiny_base))


def layers(model: Any) -> Iterator[Any]:
    """Return the 4-bit layers."""
    import bitsandbytes

    return (module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit))


def gradients_after_evaluation(model: Any) -> list[float]:
    """Return the largest gradient that each 4-bit layer passes on, after a pass in evaluation mode."""
    import torch

    model.eval()
    with torch.no_grad():
        for layer in layers(model):
            layer(torch.ones(2, layer.in_features, dtype=torch.bfloat16, device=model.device))
    model.train()
    found = []
    for layer in layers(model):
        given = torch.randn(2, layer.in_features, dtype=torch.bfloat16, device=model.device)
        given.requires_grad_()
        answer = layer(given)
        if not answer.requires_grad:
            found.append(0.0)
            continue
        answer.sum().backward()
        found.append(0.0 if given.grad is None else float(given.grad.abs().max()))
    return found


def test_every_linear_layer_is_quantized_and_cured(base: Any) -> None:
    """No 4-bit layer keeps the path that loses the gradient."""
    found = list(layers(base.model))
    assert len(found) == 2 * 7
    assert not any(layer.support_avx512bf16_for_cpu for layer in found)


def test_the_gradient_survives_an_evaluation(base: Any) -> None:
    """After a pass in evaluation mode, every base layer still passes a gradient on."""
    found = gradients_after_evaluation(base.model)
    assert min(found) > 0


def test_without_the_cure_the_gradient_is_lost_on_such_a_cpu(base: Any) -> None:
    """The fault is there in this bitsandbytes; when this fails, the cure can go."""
    from bitsandbytes.functional import has_avx512bf16

    if base.model.device.type != "cpu" or not has_avx512bf16():
        pytest.skip("the fault needs a CPU with AVX512-BF16")
    for layer in layers(base.model):
        layer.support_avx512bf16_for_cpu = True
    with pytest.warns(UserWarning, match="gemv_4bit: an autograd kernel was not registered"):
        assert max(gradients_after_evaluation(base.model)) == 0


def test_the_adapter_changes_nothing_before_training(base: Any) -> None:
    """A fresh LoRA layer adds nothing to the base."""
    import torch

    from training.fitting.model import add_lora

    ids = torch.tensor([[5, 6, 7]], device=base.model.device)
    with torch.no_grad():
        before = base.model.eval()(input_ids=ids).logits
        after = add_lora(base.model, TrainConfig()).eval()(input_ids=ids).logits
    assert torch.equal(before, after)


def test_saved_adapters_name_the_base_and_can_be_served(base: Any, tmp_path: Path) -> None:
    """The config holds a name and no path, lists are sorted, and the weights have the wanted type."""
    from training.fitting.model import add_lora, save_adapter

    model = add_lora(base.model, TrainConfig(rank=4, alpha=8))
    save_adapter(model, tmp_path, base_name="tiny", dtype="bfloat16")
    facts = inspect(tmp_path, max_rank=8)
    assert (facts.rank, facts.alpha, facts.dtype, facts.base_name) == (4, 8, "bfloat16", "tiny")
    assert len(facts.target_modules) == 7
    document = json.loads((tmp_path / "adapter_config.json").read_text(encoding="utf-8"))
    assert document["target_modules"] == sorted(document["target_modules"])
    assert "/" not in json.dumps(document["base_model_name_or_path"])


def test_rounding_makes_the_judged_weights_those_that_are_saved(base: Any, tmp_path: Path) -> None:
    """What evaluation sees is what the engine will load."""
    import torch
    from safetensors.torch import load_file

    from training.fitting.model import add_lora, round_to, save_adapter

    model = add_lora(base.model, TrainConfig(rank=4))
    round_to(model, "bfloat16")
    save_adapter(model, tmp_path, base_name="tiny", dtype="bfloat16")
    saved = load_file(tmp_path / "adapter_model.safetensors")
    for name, parameter in model.named_parameters():
        if "lora_A" in name:
            key = name.replace(".default", "")
            assert parameter.dtype == torch.float32
            assert torch.equal(parameter.cpu(), saved[key].float())


@pytest.mark.parametrize("fast", [True, False])
def test_a_cpu_that_is_slow_at_bfloat16_computes_in_float32(
    fast: bool, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The 4-bit weights stay as they are, and the base says in what it computes."""
    import torch

    from training.fitting import model as module

    if torch.cuda.is_available():
        pytest.skip("a GPU computes in bfloat16")
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: fast)
    base = module.load_base(str(tiny_base))
    wanted = torch.bfloat16 if fast else torch.float32
    assert base.compute_dtype == str(wanted).removeprefix("torch.")
    assert base.model.get_input_embeddings().weight.dtype is wanted
    assert {layer.compute_dtype for layer in layers(base.model)} == {wanted}
    assert {layer.weight.dtype for layer in layers(base.model)} == {torch.uint8}


def test_a_widened_model_can_compute_as_it_is_served(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every number is what it was before, and so is what the model says; adapters keep their float32."""
    import torch

    from training.fitting import model as module

    def said(model: Any) -> Any:
        with torch.no_grad():
            return model(torch.tensor([[3, 4, 5, 6]], device=model.device)).logits

    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: True)
    served = module.add_lora(module.load_base(str(tiny_base)).model, TrainConfig()).eval()
    before, kinds = said(served), {name: each.dtype for name, each in served.named_parameters()}
    assert said(module.in_float32(served)).dtype is torch.float32
    module.in_float32(served)  # a second time nothing is forgotten
    again = module.as_served(served)
    assert {name: each.dtype for name, each in again.named_parameters()} == kinds
    assert torch.equal(said(again), before)
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda: False)
    wide = module.add_lora(module.load_base(str(tiny_base)).model, TrainConfig()).eval()
    if not torch.cuda.is_available():
        assert torch.equal(said(module.as_served(wide)), before)
