"""What the base model's layers look like, so that an adapter that does not fit is refused before an engine.

Read from the headers of the base's safetensors files and from its `config.json`; no weights are read. Where
neither says how large a layer is (a packed quantized checkpoint of an unknown architecture), nothing is
checked: the engine's own check comes later.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from adapters.tensors import FLOATS, BrokenTensors, read_layout

Shape = tuple[int, int]
"""(out, in): the features that a linear layer gives and takes."""

_WIDTHS = {name: kind.width for name, kind in FLOATS.items()} | {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E8M0": 1,
    "U16": 2,
    "I16": 2,
    "U32": 4,
    "I32": 4,
    "U64": 8,
    "I64": 8,
}
_PACKED = (".qweight", ".weight_packed", ".weight_scale", ".weight_scale_inv", ".scales")
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.\d+\..+$")


@dataclass(frozen=True, slots=True)
class BaseShapes:
    """The linear layers of a base model by name. A layer whose size is not known is there with None."""

    layers: Mapping[str, Shape | None]
    by_kind: Mapping[str, Shape]
    """Sizes from `config.json`, by a layer's last name (`q_proj`), where the checkpoint gives none."""

    def find(self, module: str) -> tuple[bool, Shape | None]:
        """Return whether the base has a linear layer of that name, and its size where it is known.

        Where a checkpoint names a layer with another prefix (`language_model.`), the part from `layers.N` on
        decides. A base of which no layer is known is said to have every layer.
        """
        kind = self.by_kind.get(module.rpartition(".")[2])
        if not self.layers:
            return True, kind
        if module in self.layers:
            return True, self.layers[module] or kind
        tail = _LAYER.search(module)
        if tail:
            ending = "." + tail[0].lstrip(".")
            for name, shape in self.layers.items():
                if name.endswith(ending) or name == ending[1:]:
                    return True, shape or kind
        return False, None


def shapes_of(folder: Path) -> BaseShapes | None:
    """Return what the base model in `folder` says of its layers; None when it says nothing.

    Raises:
        OSError: a file is there and can't be read.
    """
    layers: dict[str, Shape | None] = {}
    for path in sorted(folder.glob("*.safetensors")):
        try:
            tensors = read_layout(path, dtypes=_WIDTHS).tensors
        except BrokenTensors:
            return None  # the base is not ours to judge; the engine will
        for name, tensor in tensors.items():
            _learn(layers, name, tensor.dtype, tensor.shape)
    config = _config(folder)
    if config.get("tie_word_embeddings") and "lm_head" not in layers:
        embedding = next((shape for name, shape in layers.items() if name.endswith("embed_tokens")), None)
        if embedding is not None:
            layers["lm_head"] = embedding
    by_kind = _by_kind(config)
    return BaseShapes(MappingProxyType(layers), MappingProxyType(by_kind)) if layers or by_kind else None


def _learn(layers: dict[str, Shape | None], name: str, dtype: str, shape: tuple[int, ...]) -> None:
    if name.endswith(".weight"):
        module = name.removesuffix(".weight")
        if dtype not in FLOATS:
            layers[module] = None  # packed: its shape is not the layer's
        elif len(shape) == 2:
            layers[module] = (shape[0], shape[1])
        return
    for ending in _PACKED:
        if name.endswith(ending):
            layers.setdefault(name.removesuffix(ending), None)


def _config(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    inner = document.get("text_config") if isinstance(document, dict) else None
    found = inner if isinstance(inner, dict) else document
    return found if isinstance(found, dict) else {}


def _by_kind(config: Mapping[str, Any]) -> dict[str, Shape]:
    """Return the sizes of the Llama family's layers, whose names many architectures share."""
    if config.get("model_type") not in {"llama", "mistral", "qwen2", "qwen3", "smollm3"}:
        return {}
    try:
        hidden, inner = int(config["hidden_size"]), int(config["intermediate_size"])
        heads = int(config["num_attention_heads"])
        head = int(config.get("head_dim") or hidden // heads)
        kv_heads = int(config.get("num_key_value_heads") or heads)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return {}
    return {
        "q_proj": (heads * head, hidden),
        "k_proj": (kv_heads * head, hidden),
        "v_proj": (kv_heads * head, hidden),
        "o_proj": (hidden, heads * head),
        "gate_proj": (inner, hidden),
        "up_proj": (inner, hidden),
        "down_proj": (hidden, inner),
    }
