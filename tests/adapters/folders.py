"""Adapter folders as PEFT writes them, small, and without any library."""

import hashlib
import json
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


def tensors(rank: int) -> dict[str, tuple[str, list[int]]]:
    """Return the names, types and shapes of a tiny adapter's tensors."""
    prefix = "base_model.model.model.layers.0.self_attn.q_proj"
    return {
        f"{prefix}.lora_A.weight": ("BF16", [rank, 8]),
        f"{prefix}.lora_B.weight": ("BF16", [8, rank]),
    }


def safetensors(named: dict[str, tuple[str, list[int]]], *, seed: int = 0) -> bytes:
    """Return a safetensors file with pseudo-random bytes in two-byte tensors."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, (dtype, shape) in named.items():
        count = 2 * shape[0] * shape[1]
        noise = hashlib.shake_256(f"{seed} {name}".encode()).digest(count)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + count]}
        data += noise
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data
