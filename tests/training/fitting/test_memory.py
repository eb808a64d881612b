"""What a run takes, by arithmetic; and what to change when it does not fit."""

from dataclasses import replace

import pytest

from training.config import TrainConfig
from training.fitting.memory import Load, Shape, chosen, estimate, load_of, proposal, shape_of

SMALL = Shape(layers=30, hidden=576, inner=1536, queries=576, keys=192, vocabulary=49152, tied=True)
LARGE = Shape(layers=32, hidden=4096, inner=14336, queries=4096, keys=1024, vocabulary=128256, tied=False)
LOAD = Load(tokens=2048, answers=64)
GB = 10**9


def test_the_shape_is_read_from_a_models_config() -> None:
    """The number of weights that follows is the model's own: 135 and 8,030 million."""
    found = shape_of(
        {
            "num_hidden_layers": 30,
            "hidden_size": 576,
            "intermediate_size": 1536,
            "num_attention_heads": 9,
            "num_key_value_heads": 3,
            "vocab_size": 49152,
            "tie_word_embeddings": True,
        }
    )
    assert found == SMALL
    assert SMALL.linear + SMALL.tables == pytest.approx(134.5e6, rel=0.01)
    assert LARGE.linear + LARGE.tables == pytest.approx(8.03e9, rel=0.01)
    assert SMALL.adapter(8) == pytest.approx(2.44e6, rel=0.01)


def test_four_bits_and_checkpoints_take_less_and_full_training_takes_most() -> None:
    """The order in which settings take memory is that of the sums."""

    def total(config: TrainConfig, *, checkpointing: bool = False, unpack: bool = False) -> int:
        return estimate(LARGE, config, LOAD, checkpointing=checkpointing, unpack=unpack).total

    packed, plain = TrainConfig(), TrainConfig(quantization="none")
    assert total(packed, checkpointing=True) < total(packed) < total(packed, unpack=True)
    assert total(packed) < total(plain) < total(TrainConfig(quantization="none", full=True))
    assert total(packed) < total(replace(packed, rank=64))


def test_auto_checkpoints_only_when_memory_asks_for_it() -> None:
    """With room for all, nothing is computed twice and the base is unpacked; with little, both turn."""
    config = TrainConfig()
    assert chosen(SMALL, config, LOAD, free_bytes=20 * GB) == (False, True)
    need = estimate(SMALL, config, LOAD, checkpointing=False, unpack=False).total
    assert chosen(SMALL, config, LOAD, free_bytes=need) == (True, True)
    assert chosen(SMALL, config, LOAD, free_bytes=need // 4) == (True, False)
    fixed = replace(config, gradient_checkpointing=False, unpack_base=False)
    assert chosen(SMALL, fixed, LOAD, free_bytes=1) == (False, False)
    assert chosen(SMALL, replace(config, quantization="none"), LOAD, free_bytes=20 * GB) == (False, False)


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, Load(tokens=100 + 90, answers=9 + 8)),
        ({"packing": False}, Load(tokens=200, answers=17)),
        ({"accumulation": 2}, Load(tokens=100, answers=9)),
        ({"method": "dpo", "packing": False}, Load(tokens=400, answers=34)),
    ],
)
def test_the_heaviest_pass_decides(changes: dict[str, object], wanted: Load) -> None:
    """The longest rows may meet; padding counts where there is some, and pairs count twice."""
    config = replace(TrainConfig(batch_size=2), **changes)
    assert load_of([10, 100, 20, 90], [1, 9, 8, 2], config) == wanted


def test_a_proposal_fits() -> None:
    """The cheapest changes come first, and what they take is less than what is free."""
    config = TrainConfig(gradient_checkpointing=False, unpack_base=True, batch_size=8)
    need = estimate(LARGE, config, LOAD, checkpointing=False, unpack=True).total
    said = proposal(LARGE, config, LOAD, free_bytes=need)
    assert said.startswith("add --unpack-base false, which takes about")
    said = proposal(LARGE, config, LOAD, free_bytes=12 * GB)
    assert "--unpack-base false --gradient-checkpointing true" in said
    assert "smaller base" not in said
    said = proposal(LARGE, replace(config, quantization="none"), LOAD, free_bytes=10 * GB)
    assert "--quantization nf4" in said
    said = proposal(LARGE, config, LOAD, free_bytes=GB)
    assert "--accumulation 8" in said
    assert "--max-tokens 512" in said
    assert "take a smaller base model" in said
