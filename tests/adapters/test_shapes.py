"""The base model's layers are known from its headers and its config, or not at all."""

import json
from pathlib import Path

import pytest

from adapters.base import cache_dir
from adapters.inspect import inspect
from adapters.shapes import BaseShapes, shapes_of
from tests.adapters.folders import safetensors

LIBRARY = Path(__file__).resolve().parents[2] / "adapters" / "library"
LLAMA = {
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def base(folder: Path, config: object, **files: dict[str, tuple[str, list[int]]]) -> BaseShapes | None:
    """Write a base model's headers and config, and return what is known of it."""
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    for name, named in files.items():
        (folder / f"{name}.safetensors").write_bytes(safetensors(named))
    return shapes_of(folder)


def test_a_checkpoint_in_parts(tmp_path: Path) -> None:
    """Linear layers of every part are known by name; norms are none; a tied head is as large as its table."""
    found = base(
        tmp_path,
        {"tie_word_embeddings": True},
        one={"model.embed_tokens.weight": ("BF16", [32, 8]), "model.norm.weight": ("BF16", [8])},
        two={"model.layers.0.mlp.up_proj.weight": ("BF16", [24, 8])},
    )
    assert found is not None
    assert dict(found.layers) == {
        "model.embed_tokens": (32, 8),
        "model.layers.0.mlp.up_proj": (24, 8),
        "lm_head": (32, 8),
    }
    assert found.find("model.norm") == (False, None)


def test_sizes_from_the_config(tmp_path: Path) -> None:
    """Without a checkpoint the config of a known architecture gives the sizes."""
    found = base(tmp_path, LLAMA)
    assert found is not None
    assert found.find("model.layers.7.self_attn.k_proj") == (True, (4, 8))
    assert found.find("model.layers.7.mlp.down_proj") == (True, (8, 24))
    assert found.find("model.layers.7.mlp.other") == (True, None)


NOTHING: dict[str, object] = {
    "no config": None,
    "another architecture": {"model_type": "mamba", "hidden_size": 8},
    "a config without sizes": {"model_type": "llama"},
    "a config of words": {**LLAMA, "hidden_size": "many"},
    "a config that is a list": [1],
}


@pytest.mark.parametrize("case", NOTHING)
def test_where_nothing_is_known(tmp_path: Path, case: str) -> None:
    """A base that says nothing is None, so that nothing is refused for it."""
    if NOTHING[case] is None:
        assert shapes_of(tmp_path) is None
    else:
        assert base(tmp_path, NOTHING[case]) is None


def test_a_broken_checkpoint_is_not_ours_to_judge(tmp_path: Path) -> None:
    """A base whose file can't be read says nothing."""
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    assert base(tmp_path, LLAMA) is None


@pytest.mark.skipif(
    not (cache_dir() / "models" / "SmolLM2-135M-Instruct").is_dir(), reason="the default base is not prepared"
)
@pytest.mark.parametrize("name", ["sentiment", "sarcasm", "entities"])
def test_the_examples_fit_the_default_base(name: str) -> None:
    """The example adapters pass every check against the real base model."""
    shapes = shapes_of(cache_dir() / "models" / "SmolLM2-135M-Instruct")
    assert shapes is not None
    assert len(shapes.layers) > 200
    assert inspect(LIBRARY / name, max_rank=16, base=shapes).rank == 8
