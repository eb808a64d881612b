"""Look at an adapter folder without loading it: what it is, and why it can't be served."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.peft_config import CONFIG, LoraConfig, UnservableAdapter, read_config
from adapters.shapes import BaseShapes
from adapters.tensors import BrokenTensors, Layout, Tensor, first_not_finite, read_layout

__all__ = ["CONFIG", "WEIGHTS", "AdapterFacts", "UnservableAdapter", "inspect"]

WEIGHTS = "adapter_model.safetensors"
MAX_ADAPTER_BYTES = 2 * 1024**3
"""The largest weights that are taken unless the settings say otherwise."""

PICKLES = ("adapter_model.bin", "adapter_model.pt")
_DTYPE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
_PREFIX = "base_model.model."
# The names that vLLM reads (vllm/lora/utils.py, parse_fine_tuned_lora_name).
_LORA = re.compile(r"(?P<module>.+)\.(?:lora_(?P<side>[AB])\.weight|lora_embedding_(?P<table>[AB]))")
_IGNORED_BY_VLLM = (".embed_tokens.base_layer.weight", ".lm_head.base_layer.weight")


@dataclass(frozen=True, slots=True)
class AdapterFacts:
    """What a folder holds. `base_name` is what PEFT wrote down, a path or an id."""

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    dtype: str
    size_bytes: int
    base_name: str


@dataclass(slots=True)
class _Pair:
    """The two matrices of one module. Of an embedding the sizes are those of its transpose."""

    table: bool
    a: tuple[int, ...] | None = None
    b: tuple[int, ...] | None = None


def inspect(
    folder: Path, *, max_rank: int | None, base: BaseShapes | None = None, values: bool = True
) -> AdapterFacts:
    """Check an adapter folder and return its facts.

    `max_rank` is the highest that the fleet serves, None for any. With `base`, its tensors must fit the base
    model's layers. Without `values` the numbers themselves are not read, only the config and the header.

    Raises:
        UnservableAdapter: a file is missing, broken or of a kind that vLLM does not serve.
        OSError: a file can't be read.
    """
    config = read_config(folder)
    if max_rank is not None and config.highest_rank > max_rank:
        raise UnservableAdapter(
            f"rank {config.highest_rank} is above the fleet's maximum of {max_rank}; "
            "train with a smaller rank or raise engine.max_lora_rank"
        )
    path = _weights(folder)
    try:
        layout = read_layout(path)
        pairs = _pairs(layout)
        for module, pair in pairs.items():
            _check_pair(module, pair, config)
            if base is not None:
                _check_fit(module, pair, base)
        broken = first_not_finite(path, layout) if values else None
    except BrokenTensors as error:
        raise UnservableAdapter(f"{WEIGHTS} {error}") from error
    if broken is not None:
        raise UnservableAdapter(
            f"{WEIGHTS}: tensor {broken!r} holds NaN or infinity: the training diverged; train again with a "
            "lower learning rate, or publish an earlier checkpoint"
        )
    return AdapterFacts(
        rank=config.highest_rank,
        alpha=config.alpha,
        target_modules=config.target_modules,
        dtype=_dtypes(layout.tensors),
        size_bytes=path.stat().st_size,
        base_name=config.base_name,
    )


def _weights(folder: Path) -> Path:
    path = folder / WEIGHTS
    if path.is_file():
        return path
    for name in PICKLES:
        if (folder / name).exists():
            raise UnservableAdapter(
                f"{name} is a pickle, which is never opened; save with safe_serialization=True"
            )
    raise UnservableAdapter(f"{folder} has no {WEIGHTS}")


def _dtypes(tensors: Mapping[str, Tensor]) -> str:
    kinds = {tensor.dtype for tensor in tensors.values()}
    return ", ".join(sorted(_DTYPE.get(kind, kind) for kind in kinds))


def _pairs(layout: Layout) -> dict[str, _Pair]:
    pairs: dict[str, _Pair] = {}
    strange: dict[str, list[str]] = defaultdict(list)
    for name, tensor in layout.tensors.items():
        match = _LORA.fullmatch(name)
        if match is None:
            if not name.endswith(_IGNORED_BY_VLLM):
                strange[_why_strange(name)].append(name)
            continue
        table = match["table"] is not None
        module = match["module"].removeprefix(_PREFIX)
        pair = pairs.setdefault(module, _Pair(table))
        side = match["table"] or match["side"]
        if pair.table is not table or getattr(pair, side.lower()) is not None:
            raise UnservableAdapter(f"{WEIGHTS} has two tensors lora_{side} for {module!r}")
        setattr(pair, side.lower(), tensor.shape)
    for because, names in strange.items():
        raise UnservableAdapter(f"{WEIGHTS}: tensor {names[0][:200]!r} {because}")
    if not pairs:
        raise UnservableAdapter(f"{WEIGHTS} holds no LoRA tensors (lora_A, lora_B)")
    return pairs


def _why_strange(name: str) -> str:
    if "lora_magnitude_vector" in name:
        return "belongs to a DoRA adapter, which vLLM does not serve; train with use_dora=false"
    if name.endswith(".bias"):
        return "is a bias, which can't be served; train with bias='none' and lora_bias=false"
    if "prompt_embeddings" in name or "prompt_encoder" in name:
        return "belongs to a prompt, not to LoRA; put the prompt into the request, or train a LoRA adapter"
    return (
        "is no LoRA matrix (….lora_A.weight, ….lora_B.weight); save with PEFT's save_pretrained, without "
        "whole "
        "modules (modules_to_save)"
    )


def _check_pair(module: str, pair: _Pair, config: LoraConfig) -> None:
    if pair.a is None or pair.b is None:
        missing = "lora_A" if pair.a is None else "lora_B"
        raise UnservableAdapter(f"{WEIGHTS} has no {missing} for {module!r}: both matrices are needed")
    if len(pair.a) != 2 or len(pair.b) != 2 or 0 in (*pair.a, *pair.b):
        raise UnservableAdapter(
            f"{WEIGHTS}: the matrices of {module!r} have the shapes {list(pair.a)} and {list(pair.b)}; "
            "vLLM serves LoRA on linear layers and embeddings only"
        )
    rank, other = pair.a[0], pair.b[1]
    if ".experts" in f".{module}":  # fused experts keep their ranks side by side
        whole = any(rank % expected == 0 for expected in config.ranks_of(module))
    else:
        whole = rank in config.ranks_of(module)
    if rank != other or not whole:
        expected = " or ".join(map(str, config.ranks_of(module)))
        raise UnservableAdapter(
            f"{WEIGHTS}: the matrices of {module!r} have rank {rank} and {other}, and {CONFIG} says "
            f"{expected}; "
            "they are not of one adapter"
        )


def _check_fit(module: str, pair: _Pair, base: BaseShapes) -> None:
    if ".experts" in f".{module}":
        return  # checkpoints lay experts out in ways that only the engine knows
    known, shape = base.find(module)
    if not known:
        raise UnservableAdapter(
            f"the base model has no linear layer {module!r}: the adapter was trained on another base"
        )
    if shape is None or pair.a is None or pair.b is None:
        return
    gives, takes = (shape[1], shape[0]) if pair.table else shape
    if (pair.a[1], pair.b[0]) != (takes, gives):
        raise UnservableAdapter(
            f"the layer {module!r} of the base model takes {takes} features and gives {gives}, and the "
            "adapter's "
            f"matrices are made for {pair.a[1]} and {pair.b[0]}: it was trained on another base"
        )
