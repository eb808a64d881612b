"""How much memory a run takes, before it runs; and what to change when it does not fit.

Pure functions of the model's shape, the settings and the rows' lengths. The activations are counted as our
own passes keep them (training.fitting.fast_lora, training.fitting.loss), tensor by tensor; a test holds the
sum against what autograd really keeps.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from training.config import TrainConfig

SLICE = 256
"""Tokens whose logits exist at once."""

HALF, FULL = 2, 4
"""Bytes of a number in bfloat16 and in float32."""

NF4_BYTES = 0.5 + 4 / 64
"""A 4-bit weight with its share of the scale, one float32 for 64 weights."""

MIN_HALF = 64
"""Rows are not proposed to be cut below so many tokens."""

SPARE = 0.8
"""The share of the free memory that a plan may take: allocators round up and fragment."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a decoder decides its memory; `width` is the bytes of a number that it computes with."""

    layers: int
    hidden: int
    inner: int
    queries: int
    keys: int
    vocabulary: int
    tied: bool
    width: int = HALF

    @property
    def linear(self) -> int:
        """The number of weights in the layers' linear maps."""
        attention = self.hidden * (2 * self.queries + 2 * self.keys)
        return self.layers * (attention + 3 * self.hidden * self.inner)

    @property
    def tables(self) -> int:
        """The number of weights in the embedding and the head."""
        return self.vocabulary * self.hidden * (1 if self.tied else 2)

    def adapter(self, rank: int) -> int:
        """The number of an adapter's weights on every linear map of the layers."""
        sides = (
            2 * (self.hidden + self.queries) + 2 * (self.hidden + self.keys) + 3 * (self.hidden + self.inner)
        )
        return self.layers * rank * sides


def shape_of(config: Mapping[str, Any], *, width: int = HALF) -> Shape:
    """Return the shape that a decoder's `config.json` describes."""
    text = config.get("text_config") or config
    heads = int(text["num_attention_heads"])
    head = int(text.get("head_dim") or text["hidden_size"] // heads)
    return Shape(
        layers=int(text["num_hidden_layers"]),
        hidden=int(text["hidden_size"]),
        inner=int(text["intermediate_size"]),
        queries=heads * head,
        keys=int(text.get("num_key_value_heads") or heads) * head,
        vocabulary=int(text["vocab_size"]),
        tied=bool(text.get("tie_word_embeddings", True)),
        width=width,
    )


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes by what they are for."""

    weights: int
    unpacked: int
    trained: int
    activations: int
    logits: int

    @property
    def total(self) -> int:
        """All of it, without the libraries."""
        return self.weights + self.unpacked + self.trained + self.activations + self.logits


@dataclass(frozen=True, slots=True)
class Load:
    """What one pass holds. `answers` are the tokens that have a loss."""

    tokens: int
    answers: int


def load_of(lengths: list[int], answers: list[int], config: TrainConfig) -> Load:
    """Return the heaviest pass that the rows can make: the longest ones together."""
    rows = config.batch_size // config.accumulation
    times = 2 if config.method == "dpo" else 1
    longest = sorted(lengths, reverse=True)[:rows]
    tokens = sum(longest) if config.packing else (longest[0] if longest else 0) * len(longest)
    return Load(tokens * times, sum(sorted(answers, reverse=True)[:rows]) * times)


def estimate(shape: Shape, config: TrainConfig, load: Load, *, checkpointing: bool, unpack: bool) -> Estimate:
    """Return what a run takes at its peak."""
    packed = config.quantization == "nf4"
    weights = weights_of(shape, packed=packed, full=config.full)
    # Gradients and two moments, of an adapter the weights too.
    trained = 3 * weights if config.full else 4 * FULL * shape.adapter(config.rank)
    width = FULL if config.full else shape.width
    every = load.tokens * layer_bytes(shape, config.rank, width=width)
    kept = (
        load.tokens * shape.hidden * width * shape.layers + every if checkpointing else every * shape.layers
    )
    slices = min(load.answers, SLICE) * shape.vocabulary * (width + 2 * FULL)
    return Estimate(
        weights=weights,
        unpacked=shape.width * shape.linear if unpack and packed else 0,
        trained=trained,
        activations=kept + load.tokens * 2 * shape.hidden * FULL,
        logits=slices + 2 * load.answers * shape.hidden * width,
    )


def weights_of(shape: Shape, *, packed: bool, full: bool) -> int:
    """Return the bytes of a base model: in float32 to be trained whole, else in NF4 or as it computes."""
    if full:
        return FULL * (shape.linear + shape.tables)
    return round(shape.linear * (NF4_BYTES if packed else shape.width)) + shape.width * shape.tables


def base_advice(shape: Shape, *, packed: bool, full: bool, free_bytes: int) -> str | None:
    """Return what to do about a base model whose weights do not fit into `free_bytes`; None where they do."""
    taken = weights_of(shape, packed=packed, full=full)
    if taken <= free_bytes:
        return None
    size = f"its weights take about {taken / 1e9:.1f} GB, and {free_bytes / 1e9:.1f} GB are free"
    if full:
        return f"train an adapter instead of the whole model, or take a smaller one ({size})"
    less = weights_of(shape, packed=True, full=False)
    if not packed and less <= free_bytes:
        return f"add --quantization nf4, which takes {less / 1e9:.1f} GB ({size})"
    return f"take a smaller base model, or free memory ({size})"


def layer_bytes(shape: Shape, rank: int, *, width: int) -> int:
    """Return the bytes that one layer keeps of one token for the backward pass.

    Each norm keeps its input in float32 and its output; attention its queries, keys and values after the
    rotation (keys and values repeated to the queries' number) and its answer, laid out twice; the gated map
    its gate before and after the activation, its other half and their product.
    """
    norms = 2 * shape.hidden * (FULL + width)
    attention = (3 * shape.queries + 2 * shape.queries) * width
    gated = 4 * shape.inner * width
    low = 7 * rank * width
    return norms + attention + gated + low


def chosen(shape: Shape, config: TrainConfig, load: Load, *, free_bytes: int) -> tuple[bool, bool]:
    """Return whether to checkpoint gradients and whether to unpack the base, where the settings say "auto".

    Unpacking pays more than it costs where there is room; checkpointing costs a third of the time and is
    chosen only when a run would not fit without.
    """

    def fits(*, checkpointing: bool, unpack: bool) -> bool:
        return estimate(shape, config, load, checkpointing=checkpointing, unpack=unpack).total <= room

    room = round(free_bytes * SPARE)
    checkpointing, unpack = config.gradient_checkpointing, config.unpack_base
    if checkpointing == "auto":
        checkpointing = not fits(checkpointing=False, unpack=unpack is True)
    if unpack == "auto":
        unpack = config.quantization == "nf4" and fits(checkpointing=checkpointing, unpack=True)
    return checkpointing, unpack


def proposal(shape: Shape, config: TrainConfig, load: Load, *, free_bytes: int) -> str:
    """Return the options with which a run fits into `free_bytes`, the cheapest first, and its size."""
    room = round(free_bytes * SPARE)
    wanted: dict[str, str] = {}
    now, carried = config, load

    def taken() -> int:
        checkpointing, unpack = now.gradient_checkpointing is True, now.unpack_base is True
        return estimate(shape, now, carried, checkpointing=checkpointing, unpack=unpack).total

    for change in _changes(config):
        if wanted and taken() <= room:
            break
        before = taken()
        after = replace(now, **change)
        share = (after.batch_size / after.accumulation) / (now.batch_size / now.accumulation)
        share *= after.max_tokens / now.max_tokens
        now, carried = after, Load(round(carried.tokens * share), round(carried.answers * share))
        if taken() < before:
            wanted |= {f"--{name.replace('_', '-')}": str(value).lower() for name, value in change.items()}
    size = f"about {taken() / 1e9:.1f} GB, and {free_bytes / 1e9:.1f} GB are free"
    if not wanted:
        return f"take a smaller base model, or free memory ({size})"
    flags = " ".join(f"{option} {value}" for option, value in wanted.items())
    if taken() > room:
        return f"add {flags}, and take a smaller base model, since that is still {size}"
    return f"add {flags}, which takes {size}"


def _changes(config: TrainConfig) -> list[dict[str, Any]]:
    """Return the changes to try, the one that costs least first."""
    least = 2 if config.method == "kto" else 1
    passes = range(config.accumulation + 1, config.batch_size // least + 1)
    found: list[dict[str, Any]] = [{"unpack_base": False}] if config.quantization == "nf4" else []
    found += [{"gradient_checkpointing": True}]
    found += [{"accumulation": number} for number in passes if config.batch_size % number == 0]
    if config.quantization == "none" and not config.full:
        found.append({"quantization": "nf4", "unpack_base": False})
    if config.max_tokens >= 2 * MIN_HALF:
        found.append({"max_tokens": config.max_tokens // 2})
    return found
