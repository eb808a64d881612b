"""4-bit weights that stay unpacked while a model is judged: the same answers, and packed again afterwards."""

from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]

WEIGHT = "_turnout_unpacked"


def loaded(folder: Path) -> Any:
    """Return the tiny base with a fresh adapter, ready to answer."""
    from training.config import TrainConfig
    from training.fitting.model import add_lora, load_base

    return add_lora(load_base(str(folder)).model, TrainConfig()).eval()


def logits(model: Any) -> Any:
    """Return what a model says to a few tokens."""
    import torch

    with torch.no_grad():
        return model(torch.tensor([[3, 4, 5, 6]], device=model.device)).logits


def kept(model: Any) -> int:
    """Return how many layers hold unpacked weights."""
    return sum(WEIGHT in vars(module) for module in model.modules())


def test_answers_are_the_same_and_nothing_stays(tiny_base: Path) -> None:
    """In a block every 4-bit layer is unpacked, and the logits are those of packed weights; also twice.

    Where the base computes in float32 (`training.fitting.model.compute_dtype`), up to the weights' rounding.
    """
    import torch

    from training.fitting.unpacking import unpacked_while_judged

    model = loaded(tiny_base)
    before = logits(model)
    rounds = before.dtype is torch.bfloat16
    near = {"rtol": 0.0, "atol": 0.0 if rounds else 0.01}
    with unpacked_while_judged(model):
        assert kept(model) == 2 * 7
        torch.testing.assert_close(logits(model), before, **near)
        with unpacked_while_judged(model):
            torch.testing.assert_close(logits(model), before, **near)
        assert kept(model) == 2 * 7
    assert kept(model) == 0
    assert torch.equal(logits(model), before)


def test_an_error_leaves_nothing_behind(tiny_base: Path) -> None:
    """A judgement that fails gives the memory back."""
    from training.fitting.unpacking import unpacked_while_judged

    model = loaded(tiny_base)
    with pytest.raises(KeyError), unpacked_while_judged(model):
        raise KeyError
    assert kept(model) == 0


def test_without_memory_they_stay_packed(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the unpacked weights would take more than half of what is free, nothing changes."""
    from training.fitting import unpacking

    model = loaded(tiny_base)
    monkeypatch.setattr(unpacking, "free_bytes", lambda: 1000)
    with unpacking.unpacked_while_judged(model):
        assert kept(model) == 0
        logits(model)
