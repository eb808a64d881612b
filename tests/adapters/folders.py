"""Adapter folders as PEFT writes them, small, and without any library."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

from adapters.inspect import CONFIG, WEIGHTS

BASE_NAME = "SmolLM2-135M-Instruct"


def make_adapter(folder: Path, *, rank: int = 4, seed: int = 0, **config: Any) -> Path:
    """Write an adapter into `folder` and return it; `seed` decides its weights, `config` its config."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": 2 * rank,
        "target_modules": ["v_proj", "q_proj"],
        "bias": "none",
        "base_model_name_or_path": f"/somewhere/{BASE_NAME}",
        **config,
    }
    (folder / CONFIG).write_text(json.dumps(document), encoding="utf-8")
    (folder / WEIGHTS).write_bytes(safetensors(tensors(rank), seed=seed))
    return folder


MODULE = "model.layers.0.self_attn.q_proj"


def tensors(
    rank: int, *, module: str = MODULE, takes: int = 8, gives: int = 8
) -> dict[str, tuple[str, list[int]]]:
    """Return the names, types and shapes of a tiny adapter's tensors."""
    return {
        f"base_model.model.{module}.lora_A.weight": ("BF16", [rank, takes]),
        f"base_model.model.{module}.lora_B.weight": ("BF16", [gives, rank]),
    }


def safetensors(named: dict[str, tuple[str, list[int]]], *, seed: int = 0) -> bytes:
    """Return a safetensors file with pseudo-random finite numbers in two-byte tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, shape) in named.items():
        count = 2 * math.prod(shape)
        noise = bytearray(hashlib.shake_256(f"{seed} {name}".encode()).digest(count))
        noise[1::2] = bytes(byte & 0xBF for byte in noise[1::2])  # neither NaN nor infinity
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + count]}
        data += noise
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data
