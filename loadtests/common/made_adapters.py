"""Adapters made for tests of swapping: rank 1, on one layer, each answering unlike the others.

One matrix of a late layer gets a strong random direction. What comes out is not language, but it is this
adapter's and no other's: the same prompt gives another text under each seed.
"""

import json
import math
import random
import struct
from pathlib import Path

RANK = 1
LAYER = 29
"""The last layer of SmolLM2-135M, whose MLP maps 1,536 values to 576."""

INNER, HIDDEN = 1536, 576
STRENGTH = 40.0


def make(folder: Path, seed: int, *, base_name: str, note: str | None = None) -> Path:
    """Write the adapter of a seed into a new folder and return it; another note makes another digest."""
    folder.mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_name,
        "r": RANK,
        "lora_alpha": 1,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["down_proj"],
        "layers_to_transform": [LAYER],
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    draw = random.Random(seed)
    inward = [draw.gauss(0, 1) / math.sqrt(INNER) for _ in range(INNER)]
    outward = [draw.gauss(0, 1) * STRENGTH for _ in range(HIDDEN)]
    module = f"base_model.model.model.layers.{LAYER}.mlp.down_proj"
    tensors = {f"{module}.lora_A.weight": (RANK, inward), f"{module}.lora_B.weight": (HIDDEN, outward)}
    (folder / "adapter_model.safetensors").write_bytes(_safetensors(tensors, note))
    return folder


def _safetensors(tensors: dict[str, tuple[int, list[float]]], note: str | None) -> bytes:
    header: dict[str, object] = {} if note is None else {"__metadata__": {"note": note}}
    data = b""
    for name, (rows, values) in tensors.items():
        end = len(data) + 4 * len(values)
        header[name] = {
            "dtype": "F32",
            "shape": [rows, len(values) // rows],
            "data_offsets": [len(data), end],
        }
        data += struct.pack(f"<{len(values)}f", *values)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return struct.pack("<Q", len(head)) + head + data
