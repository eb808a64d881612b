"""What an adapter's `adapter_config.json` says, and why vLLM would not serve it.

What is refused here is what vLLM 0.32 refuses (`vllm/lora/peft_helper.py`) or would answer wrongly with, so
that no engine has to find out.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

CONFIG = "adapter_config.json"
MAX_CONFIG_BYTES = 1024 * 1024


class UnservableAdapter(ValueError):
    """The folder holds no adapter that can be served; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class LoraConfig:
    """The part of the config that decides. `ranks` are overrides by a module's last name parts.

    `rslora`: the scale is alpha / √rank (rsLoRA) in place of alpha / rank.
    """

    rank: int
    alpha: float
    target_modules: tuple[str, ...]
    base_name: str
    ranks: Mapping[str, int]
    rslora: bool = False

    @property
    def highest_rank(self) -> int:
        """The highest rank of any module."""
        return max([self.rank, *self.ranks.values()])

    def ranks_of(self, module: str) -> tuple[int, ...]:
        """Return the ranks that a module may have: one, unless a pattern is more than a plain name."""
        for key, rank in self.ranks.items():
            if not re.fullmatch(r"[\w.]+", key):
                return (self.rank, *self.ranks.values())
            if module == key or module.endswith("." + key):
                return (rank,)
        return (self.rank,)


_OTHER_KINDS = {
    "PROMPT_TUNING": "prompt tuning is not served; put the prompt into the request, or train a LoRA adapter",
    "PREFIX_TUNING": "prefix tuning is not served; put the prefix into the prompt, or train a LoRA adapter",
    "P_TUNING": "p-tuning is not served; put the prompt into the request, or train a LoRA adapter",
    "IA3": "(IA)³ is not served; merge it into the base model, or train a LoRA adapter",
    "ADALORA": "AdaLoRA is not served; train plain LoRA with rank_pattern set to the ranks that it found",
}
"""What to do instead, by `peft_type`, where there is more to say than to train a LoRA adapter."""

_VARIANTS = {
    "use_dora": "this is a DoRA adapter, which vLLM does not serve; train with use_dora=false",
    "lora_bias": "lora_bias=true can't be served; train with lora_bias=false",
    "alora_invocation_tokens": "activated LoRA (aLoRA) can't be served; train without invocation tokens",
    "layer_replication": "layer_replication can't be served: it changes the base model; train without it",
    "use_bdlora": "block-diagonal LoRA can't be served; train without use_bdlora",
    "use_qalora": "QA-LoRA can't be served; train with use_qalora=false",
    "trainable_token_indices": "trained tokens (trainable_token_indices) can't be served; train without them",
}

# Initialisations after which the saved adapter is plain LoRA on the unchanged base.
_PLAIN_INITS = frozenset({"gaussian", "eva", "orthogonal", "mica", "lora_ga"})


def read_config(folder: Path) -> LoraConfig:
    """Read and judge the config of an adapter folder.

    Raises:
        UnservableAdapter: it is missing, broken, or of an adapter that vLLM does not serve.
        OSError: it can't be read.
    """
    return judge(_document(folder))


def judge(config: Mapping[str, Any]) -> LoraConfig:
    """Judge what an adapter's config says, before there are weights or after.

    Raises:
        UnservableAdapter: it is of an adapter that vLLM does not serve.
    """
    _require_lora(config)
    rank = config.get("r")
    if not _whole(rank):
        raise UnservableAdapter(f"the rank r={rank!r} is not a positive whole number")
    alpha = config.get("lora_alpha")
    if not _positive(alpha):
        raise UnservableAdapter(f"lora_alpha={alpha!r} is not a positive number")
    targets = config.get("target_modules")
    if isinstance(targets, str):
        targets = [targets]
    if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
        raise UnservableAdapter(f"target_modules={targets!r} is not a list of names")
    return LoraConfig(
        rank=rank,
        alpha=float(alpha),
        target_modules=tuple(sorted(targets)),
        base_name=str(config.get("base_model_name_or_path") or ""),
        ranks=_ranks(config),
        rslora=bool(config.get("use_rslora")),
    )


def _document(folder: Path) -> dict[str, Any]:
    if not folder.is_dir():
        raise UnservableAdapter(
            f"{folder} is not a folder; name the folder that PEFT's save_pretrained wrote"
        )
    path = folder / CONFIG
    if not path.is_file():
        raise UnservableAdapter(
            f"{folder} has no {CONFIG}; name the folder that PEFT's save_pretrained wrote"
        )
    with path.open("rb") as file:
        text = file.read(MAX_CONFIG_BYTES + 1)
    if len(text) > MAX_CONFIG_BYTES:
        raise UnservableAdapter(f"{CONFIG} is over {MAX_CONFIG_BYTES} bytes")
    try:
        config = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        because = str(error)[:200] if isinstance(error, ValueError) else "it is nested too deeply"
        raise UnservableAdapter(f"{CONFIG} is not valid JSON: {because}") from error
    if not isinstance(config, dict):
        raise UnservableAdapter(f"{CONFIG} is not a JSON object")
    return config


def _require_lora(config: Mapping[str, Any]) -> None:
    kind = config.get("peft_type")
    if kind != "LORA":
        instead = _OTHER_KINDS.get(str(kind), "vLLM serves LORA only; train a LoRA adapter instead")
        raise UnservableAdapter(f"peft_type is {kind!r}: {instead}")
    for field, because in _VARIANTS.items():
        if config.get(field):
            raise UnservableAdapter(because)
    if whole := config.get("modules_to_save"):
        raise UnservableAdapter(
            f"modules_to_save={whole!r}: vLLM takes whole modules for classification heads only, and this "
            "gateway serves text; train without them"
        )
    if config.get("bias", "none") != "none":
        raise UnservableAdapter(f"bias={config['bias']!r} can't be served; train with bias='none'")
    init = config.get("init_lora_weights", True)
    if isinstance(init, str) and init.lower() not in _PLAIN_INITS:
        raise UnservableAdapter(
            f"init_lora_weights={init!r} changed the base model's weights in training; save it with PEFT's "
            "path_initial_model_for_weight_conversion, which makes a plain LoRA adapter of it"
        )


def _ranks(config: Mapping[str, Any]) -> Mapping[str, int]:
    ranks, alphas = (config.get(field) or {} for field in ("rank_pattern", "alpha_pattern"))
    if not isinstance(ranks, dict) or not all(_whole(rank) for rank in ranks.values()):
        raise UnservableAdapter("rank_pattern is not an object of positive whole numbers")
    if not isinstance(alphas, dict) or not all(_positive(alpha) for alpha in alphas.values()):
        raise UnservableAdapter("alpha_pattern is not an object of positive numbers")
    return MappingProxyType(dict(ranks))


def _whole(value: object) -> TypeGuard[int]:
    return type(value) is int and 0 < value < 2**31


def _positive(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
