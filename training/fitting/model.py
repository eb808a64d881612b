"""The base model as it is served, LoRA layers in float32 on it, and the adapter's files.

bitsandbytes 0.50 repacks the weights of a 4-bit layer in place when it runs in evaluation mode on a CPU with
AVX512-BF16. From then on the layer has no gradient, and its answers are wrong. `cure` switches that path off.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes
import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as transformers_logging

from adapters.inspect import CONFIG, WEIGHTS
from adapters.machine import multiplies_bfloat16
from adapters.peft_config import read_config
from training.config import ALL_LINEAR, Quantization, SaveDtype, TrainConfig
from training.fitting.room import base_fits
from training.fitting.world import local_rank

_WIDENED = "_turnout_widened"
DTYPE = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
QUANTIZATION = "bitsandbytes-nf4"
NAMES: dict[Quantization, str] = {"nf4": QUANTIZATION, "none": "none"}
"""What the engine calls a quantization, by what the settings call it."""


@dataclass(frozen=True, slots=True)
class Base:
    """A base model, its tokenizer, the ids that end an answer, its quantization and what it computes in."""

    model: Any
    tokenizer: Any
    stop_ids: frozenset[int]
    max_position: int
    quantization: str = QUANTIZATION
    compute_dtype: str = "bfloat16"


def load_base(source: str, *, quantization: Quantization = "nf4", full: bool = False) -> Base:
    """Load a base model from a folder or a hub's id, on the GPU when there is one.

    It is on NF4, as it is served by default, or with `quantization` "none" in bfloat16. It computes in
    `compute_dtype`. For `full` fine-tuning it is in float32, in which small updates are not lost.

    Raises:
        OSError: there is no such model.
        DoesNotFit: the memory does not suffice for it.
    """
    transformers_logging.disable_progress_bar()
    tokenizer = AutoTokenizer.from_pretrained(source)
    packed = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    computes = torch.float32 if full else compute_dtype()
    four_bits = quantization == "nf4"
    config = AutoConfig.from_pretrained(source)
    with base_fits(config, packed=four_bits, full=full, width=computes.itemsize):
        model = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=torch.float32 if full else torch.bfloat16,
            quantization_config=packed if four_bits else None,
            device_map={"": local_rank()} if torch.cuda.is_available() else None,
        )
        cure(model)
        if computes == torch.float32:
            in_float32(model)
    model.requires_grad_(requires_grad=full)
    model.config.use_cache = True
    ends = model.generation_config.eos_token_id
    stop_ids = frozenset(ends if isinstance(ends, list) else [ends]) - {None}
    position = int(model.config.max_position_embeddings)
    kind = str(computes).removeprefix("torch.")
    return Base(model, tokenizer, stop_ids, position, NAMES[quantization], kind)


def quantization_of(model: Any) -> str:
    """Return what the engine calls the quantization that a model was loaded with."""
    return NAMES["nf4" if getattr(model, "is_loaded_in_4bit", False) else "none"]


def cure(model: Any) -> int:
    """Switch the faulty CPU path of every 4-bit layer off; return how many layers there are.

    Must run before the first pass: a layer that was repacked stays so.
    """
    layers = [module for module in model.modules() if isinstance(module, bitsandbytes.nn.Linear4bit)]
    for layer in layers:
        layer.support_avx512bf16_for_cpu = False
    return len(layers)


def compute_dtype() -> torch.dtype:
    """Return what a frozen base computes in here: bfloat16, unless this CPU is several times slower at it."""
    if torch.cuda.is_available() or multiplies_bfloat16():
        return torch.bfloat16
    return torch.float32


def in_float32(model: Any) -> Any:
    """Return the model computing in float32 on the same quantized weights.

    What it says then is nearer to the truth than any bfloat16 run, and the difference to one is its noise.
    """
    _compute_in(model, torch.float32)
    widened = model.__dict__.setdefault(_WIDENED, [])
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.dtype in (torch.bfloat16, torch.float16):
            widened.append((tensor, tensor.dtype))
            tensor.data = tensor.data.to(torch.float32)
    return model


def as_served(model: Any) -> Any:
    """Return the model computing as an engine does: `in_float32` undone, in the model and all parts of it."""
    _compute_in(model, torch.bfloat16)
    for module in model.modules():
        for tensor, dtype in module.__dict__.pop(_WIDENED, ()):
            tensor.data = tensor.data.to(dtype)
    return model


def _compute_in(model: Any, dtype: torch.dtype) -> None:
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            module.compute_dtype = dtype
            module.compute_type_is_set = True


def add_lora(model: Any, config: TrainConfig) -> Any:
    """Return the model with trainable LoRA layers in float32: new ones, or those of `config.parent`.

    Raises:
        ValueError: the parent has another shape or scale than the settings, or does not fit the base model.
        OSError: the parent can't be read.
    """
    torch.manual_seed(config.seed)
    if config.parent is not None:
        return to_float32(_go_on_from(model, config, config.parent))
    targets = config.target_modules
    adapted = get_peft_model(
        model,
        LoraConfig(
            task_type="CAUSAL_LM",
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            use_rslora=config.rslora,
            target_modules=targets if isinstance(targets, str) else list(targets),
            bias="none",
        ),
    )
    return to_float32(adapted)


def _go_on_from(model: Any, config: TrainConfig, parent: Path) -> Any:
    """Return the model with a version's layers; its dropout alone is that of the settings, not its own."""
    known = read_config(parent)
    if (known.rank, known.alpha, known.rslora) != (config.rank, config.alpha, config.rslora):
        raise ValueError(
            f"the version to go on from has rank {known.rank} and alpha {known.alpha:g}, "
            f"{'with' if known.rslora else 'without'} rsLoRA, which stay as they are: give --rank "
            f"{known.rank} --alpha {known.alpha:g} {'--rslora' if known.rslora else '--no-rslora'}"
        )
    targets = config.target_modules
    named = {targets} if isinstance(targets, str) else set(targets)
    if named not in ({ALL_LINEAR}, set(known.target_modules)):
        raise ValueError("--target-modules are those of the version to go on from; leave the option out")
    shape = LoraConfig.from_pretrained(str(parent))
    shape.lora_dropout = config.dropout
    # Saved adapters name their base, which is no place: PEFT would ask a hub for it at every checkpoint.
    shape.base_model_name_or_path = model.config.name_or_path
    try:
        return PeftModel.from_pretrained(model, str(parent), is_trainable=True, config=shape)
    except RuntimeError as error:
        raise ValueError(f"{parent} does not fit the base model: {error}") from error


def to_float32(model: Any) -> Any:
    """Cast every trainable weight to float32, in which small updates are not lost; return the model."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)
    return model


def round_to(model: Any, dtype: SaveDtype) -> None:
    """Round the LoRA weights to what will be saved, so that what is judged is what is served."""
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.to(DTYPE[dtype]).to(parameter.dtype)


def save_adapter(model: Any, folder: Path, *, base_name: str, dtype: SaveDtype) -> None:
    """Write `adapter_config.json` and `adapter_model.safetensors` into `folder`.

    The config names the base model by `base_name`, never by where it lies on this machine. Target modules are
    named by their last part and sorted, so that the same training gives the same digest.
    """
    weights = {
        name: tensor.detach().to("cpu", DTYPE[dtype]).contiguous()
        for name, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)
    model.peft_config["default"].save_pretrained(str(folder))
    document = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    document["base_model_name_or_path"] = base_name
    document["inference_mode"] = True
    # From the weights: what the settings say may be a pattern.
    document["target_modules"] = sorted({name.split(".lora_")[0].rsplit(".", 1)[-1] for name in weights})
    (folder / CONFIG).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_model(model: Any, tokenizer: Any, folder: Path, *, dtype: SaveDtype) -> None:
    """Write a fully fine-tuned model as an ordinary Hugging Face folder: a base model, and no adapter.

    It is served as `base.model`, quantized when it is loaded; no adapter made for the old base fits it.
    """
    model.config.use_cache = True
    model.to(DTYPE[dtype]).save_pretrained(str(folder), safe_serialization=True)
    tokenizer.save_pretrained(str(folder))
