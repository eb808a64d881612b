"""The engine's 4-bit weights on a CPU, unpacked once."""

from types import SimpleNamespace
from typing import Any

import pytest

pytestmark = pytest.mark.slow


def layer_of(*widths: int) -> Any:
    """Return a layer as vllm-bnb-plugin leaves it: shards of so many outputs, of 64 inputs, packed."""
    import torch
    from bitsandbytes.functional import quantize_4bit

    torch.manual_seed(0)
    packed = [
        quantize_4bit(torch.randn(width, 64, dtype=torch.bfloat16), quant_type="nf4") for width in widths
    ]
    data = torch.cat([each for each, _ in packed])
    sizes = [len(each) for each, _ in packed]
    weight = SimpleNamespace(
        data=data,
        bnb_quant_state={place: state for place, (_, state) in enumerate(packed)},
        bnb_shard_offsets=torch.tensor([sum(sizes[:place]) for place in range(len(sizes) + 1)]),
    )
    return SimpleNamespace(weight=weight)


def plain(layer: Any, x: Any) -> Any:
    """Return what bitsandbytes itself says, shard by shard."""
    import torch
    from bitsandbytes import matmul_4bit

    weight = layer.weight
    starts = weight.bnb_shard_offsets
    parts = [
        matmul_4bit(x, weight.data[starts[part] : starts[part + 1]].t(), state)
        for part, state in weight.bnb_quant_state.items()
    ]
    return torch.cat(parts, dim=-1)


def refuse(*_: Any) -> Any:
    """Stand where the packed product must not be used."""
    raise AssertionError("unpacked at every step")


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("widths", [(32,), (32, 16, 16)])
def test_unpacked_weights_say_what_packed_ones_say(
    fast: bool, widths: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bfloat16 or float32, of any shape of input, with a bias, and for good."""
    import torch

    from adapters import vllm_weights

    monkeypatch.setattr(vllm_weights, "multiplies_bfloat16", lambda: fast)
    layer, x = layer_of(*widths), torch.randn(2, 3, 64, dtype=torch.bfloat16)
    bias = torch.randn(sum(widths), dtype=torch.bfloat16)
    applied = vllm_weights.keeping_unpacked(refuse, always=True)
    found = applied(None, layer, x, bias)
    assert found.dtype is torch.bfloat16
    torch.testing.assert_close(
        found, plain(layer, x.reshape(-1, 64)).view(2, 3, -1) + bias, rtol=0.02, atol=0.1
    )
    layer.weight = None  # not looked at again
    assert torch.equal(applied(None, layer, x, bias), found)


def test_without_memory_weights_stay_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine then multiplies as it always did; the choice is made once."""
    import torch

    from adapters import vllm_weights

    asked: list[int] = []

    def free() -> int:
        asked.append(1)
        return 250 + 64 * 32 * 2 - 1

    monkeypatch.setattr(vllm_weights, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(vllm_weights, "free_memory", free)
    monkeypatch.setattr(vllm_weights, "all_memory", lambda: 1000)
    layer, x = layer_of(32), torch.ones(1, 64, dtype=torch.bfloat16)
    applied = vllm_weights.keeping_unpacked(lambda *_: "packed", always=False)
    assert [applied(None, layer, x) for _ in range(2)] == ["packed", "packed"]
    assert asked == [1]
    monkeypatch.setattr(vllm_weights, "free_memory", lambda: 250 + 64 * 32 * 2)
    assert torch.is_tensor(vllm_weights.keeping_unpacked(refuse, always=False)(None, layer_of(32), x))
    assert torch.is_tensor(vllm_weights.keeping_unpacked(refuse, always=True)(None, layer_of(32), x))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of vLLM's own imports
@pytest.mark.parametrize(("wish", "kept"), [(None, True), ("always", True), ("never", False)])
def test_the_environment_decides(wish: str | None, kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """`never` leaves the plugin's own product; otherwise it is replaced, once."""
    from vllm_bnb_plugin.quantization.linear import BitsAndBytesLinearMethod

    from adapters import vllm_weights

    own = BitsAndBytesLinearMethod._apply_4bit_weight
    own = getattr(own, "__wrapped__", own)
    monkeypatch.setattr(BitsAndBytesLinearMethod, "_apply_4bit_weight", own)
    if wish is None:
        monkeypatch.delenv(vllm_weights.UNPACK, raising=False)
    else:
        monkeypatch.setenv(vllm_weights.UNPACK, wish)
    vllm_weights.repair()
    vllm_weights.repair()
    found: Any = BitsAndBytesLinearMethod._apply_4bit_weight
    assert (getattr(found, "__wrapped__", None) is own) is kept
    assert (found is own) is not kept
