"""Adapters on the tiny base model, made without training."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.evaluation.fleet import Fleet

MakeLora = Callable[[Path, int], Path]


@pytest.fixture
def make_lora(tiny_base: Path) -> MakeLora:
    """Return a function that writes an adapter with random weights into a folder."""
    return lora_maker(tiny_base)


@pytest.fixture
def fleet(tmp_path: Path, tiny_base: Path, make_lora: MakeLora, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """A fleet with a cache of its own."""
    monkeypatch.setenv("TURNOUT_CACHE", str(tmp_path / "cache"))
    return Fleet(tmp_path, tiny_base, make_lora)


def lora_maker(tiny_base: Path) -> MakeLora:
    """Return that function, for fixtures that many tests share."""

    def make(folder: Path, seed: int) -> Path:
        import torch

        from training.config import TrainConfig
        from training.fitting.model import add_lora, load_base, save_adapter

        model = add_lora(load_base(str(tiny_base)).model, TrainConfig(rank=4, seed=seed))
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.normal_(0, 1.0, generator=generator)
        folder.mkdir(parents=True)
        save_adapter(model, folder, base_name="tiny", dtype="float32")
        return folder

    return make
