"""Look at an adapter folder without loading it: what it is, and why it can't be served.

The weights are read as safetensors (https://github.com/huggingface/safetensors#format): an 8-byte
little-endian header length, a JSON header, then the tensors. Pickle is never opened.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
MAX_HEADER_BYTES = 100_000_000
_BYTES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_DTYPE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
_LORA = re.compile(r"\.lora_(A|B|embedding_A|embedding_B)(\.|$)")


class UnservableAdapter(ValueError):
    """The folder holds no adapter that can be served; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What a folder holds. `base_name` is what PEFT wrote down, a path or an id."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    dtype: str
    size_bytes: int
    base_name: str


def inspect(folder: Path, *, max_rank: int) -> AdapterFacts:
    """Check an adapter folder and return its facts.

    Raises:
        UnservableAdapter: a file is missing, broken or of a kind that vLLM does not serve.
    """
    config = _read_config(folder)
    rank = _servable_rank(config, max_rank)
    tensors = _read_header(folder)
    if not any(_LORA.search(name) for name in tensors):
        raise UnservableAdapter(f"{WEIGHTS} holds no LoRA tensors (lora_A, lora_B)")
    targets = config.get("target_modules") or ()
    if isinstance(targets, str):
        targets = (targets,)
    kinds = {str(entry["dtype"]) for entry in tensors.values()}
    return AdapterFacts(
        rank=rank,
        alpha=float(config.get("lora_alpha", rank)),
        target_modules=tuple(sorted(str(target) for target in targets)),
        dtype=", ".join(sorted(_DTYPE.get(kind, kind) for kind in kinds)),
        size_bytes=(folder / WEIGHTS).stat().st_size,
        base_name=str(config.get("base_model_name_or_path") or ""),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UnservableAdapter(
            f"{folder} is not a folder; name the folder that PEFT's save_pretrained wrote"
        )
    path = folder / CONFIG
    if not path.is_file():
        raise UnservableAdapter(
            f"{folder} has no {CONFIG}; name the folder that PEFT's save_pretrained wrote"
        )
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UnservableAdapter(f"{CONFIG} is not valid JSON: {error}") from error
    if not isinstance(config, dict):
        raise UnservableAdapter(f"{CONFIG} is not a JSON object")
    return config


def _servable_rank(config: dict[str, Any], max_rank: int) -> int:
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnservableAdapter(f"peft_type is {kind!r}: vLLM serves LORA only; train a LoRA adapter instead")
    if config.get("use_dora"):
        raise UnservableAdapter(
            "this is a DoRA adapter, which vLLM does not serve; train with use_dora=false"
        )
    if config.get("modules_to_save"):
        raise UnservableAdapter(
            f"modules_to_save={config['modules_to_save']}: whole modules can't be swapped; train without them"
        )
    if config.get("bias", "none") != "none":
        raise UnservableAdapter(f"bias={config['bias']!r} can't be served; train with bias='none'")
    rank = config.get("r")
    if not isinstance(rank, int) or isinstance(rank, bool) or rank < 1:
        raise UnservableAdapter(f"the rank r={rank!r} is not a positive whole number")
    pattern = config.get("rank_pattern") or {}
    highest = max([rank, *(value for value in pattern.values() if isinstance(value, int))])
    if highest > max_rank:
        raise UnservableAdapter(
            f"rank {highest} is above the fleet's maximum of {max_rank}; "
            "train with a smaller rank or raise engine.max_lora_rank"
        )
    return highest


def _read_header(folder: Path) -> dict[str, Any]:
    path = folder / WEIGHTS
    if not path.is_file():
        pickled = sorted(folder.glob("adapter_model.bin"))
        if pickled:
            raise UnservableAdapter(
                "adapter_model.bin is a pickle, which is never opened; save with safe_serialization=True"
            )
        raise UnservableAdapter(f"{folder} has no {WEIGHTS}")
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, MAX_HEADER_BYTES):
            raise UnservableAdapter(f"{WEIGHTS} is truncated or no safetensors file ({size} bytes)")
        try:
            header = json.loads(file.read(length))
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise UnservableAdapter(f"{WEIGHTS} has a broken header: {error}") from error
    if not isinstance(header, dict):
        raise UnservableAdapter(f"{WEIGHTS} has a broken header")
    header.pop("__metadata__", None)
    _check_extents(header, size - 8 - length)
    return header


def _check_extents(header: dict[str, Any], data_bytes: int) -> None:
    end = 0
    for name, entry in header.items():
        try:
            start, stop = entry["data_offsets"]
            wanted = math.prod(entry["shape"]) * _BYTES[entry["dtype"]]
        except (KeyError, TypeError, ValueError) as error:
            raise UnservableAdapter(f"{WEIGHTS}: the entry of tensor {name} can't be read") from error
        if not 0 <= start <= stop <= data_bytes or stop - start != wanted:
            raise UnservableAdapter(f"{WEIGHTS} is truncated: tensor {name} lies outside the file")
        end = max(end, stop)
    if end != data_bytes:
        raise UnservableAdapter(f"{WEIGHTS} has {data_bytes - end} bytes that belong to no tensor")
