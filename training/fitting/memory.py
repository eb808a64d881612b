"""How much memory a run takes, before it runs; and what to change when it does not fit.

Pure functions of the model's shape, the settings and the rows' lengths. The activations are counted as our own
passes keep them (training.fitting.fast_lora, training.fitting.loss), tensor by tensor; a test holds the sum
against what autograd really keeps.
"""

from dataclasses import dataclass, replace
from typing import Any

from training.config import TrainConfig
from training.fitting.loss import SLICE

HALF, FULL = 2, 4
"""Bytes of a number in bfloat16 and in float32."""

NF4_BYTES = 0.5 + 1 / 64
"""A 4-bit weight with its share of a scale: one float32 for 64 weights would be 1/16, one byte is 1/64."""

SPARE = 0.8
"""The share of the free memory that a plan may take: allocators round up and fragment."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What of a decoder's config decides its memory."""

    layers: int
    hidden: int
    inner: int
    queries: int
    keys: int
    vocabulary: int
    tied: bool

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


def shape_of(config: Any) -> Shape:
    """Return the shape that a transformers config describes."""
    text = config.get_text_config()
    heads = text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // heads
    return Shape(
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        inner=text.intermediate_size,
        queries=heads * width,
        keys=(getattr(text, "num_key_value_heads", None) or heads) * width,
        vocabulary=text.vocab_size,
        tied=bool(text.tie_word_embeddings),
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
    if config.full:
        weights = FULL * (shape.linear + shape.tables)
        trained = 3 * weights  # gradients and two moments
    else:
        weights = round(shape.linear * (NF4_BYTES if packed else HALF)) + HALF * shape.tables
        trained = 4 * FULL * shape.adapter(config.rank)  # weights, gradients and two moments
    width = FULL if config.full else HALF
    every = load.tokens * layer_bytes(shape, config.rank, width=width)
    kept = (
        load.tokens * shape.hidden * width * shape.layers + every if checkpointing else every * shape.layers
    )
    slices = min(load.answers, SLICE) * shape.vocabulary * (width + 2 * FULL)
    return Estimate(
        weights=weights,
        unpacked=HALF * shape.linear if unpack and packed else 0,
        trained=trained,
        activations=kept + load.tokens * 2 * shape.hidden * FULL,
        logits=slices + 2 * load.answers * shape.hidden * width,
    )


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
    """Return what to change so that a run fits into `free_bytes`, each with what it would then take."""
    room = round(free_bytes * SPARE)
    now = config
    steps: list[str] = []

    def taken() -> int:
        checkpointing = now.gradient_checkpointing is True
        return estimate(shape, now, load, checkpointing=checkpointing, unpack=now.unpack_base is True).total

    for option, change in _changes(config):
        if taken() <= room:
            break
        before = taken()
        rows = now.batch_size // now.accumulation
        now = change(now)
        if now.batch_size // now.accumulation != rows:
            share = (now.batch_size // now.accumulation) / rows
            load = Load(round(load.tokens * share), round(load.answers * share))
        if option.startswith("--max-tokens"):
            load = Load(load.tokens // 2, load.answers // 2)
        if taken() < before:
            steps.append(f"{option} (about {taken() / 1e9:.1f} GB)")
    if not steps:
        return "close other programs on this machine, or take a smaller base model"
    if taken() > room:
        steps.append("and a smaller base model, since that is still too much")
    return ", then ".join(steps)


def _changes(config: TrainConfig) -> list[tuple[str, Any]]:
    """Return the changes to try, the one that costs least first."""
    found: list[tuple[str, Any]] = [
        ("--unpack-base false", lambda now: replace(now, unpack_base=False)),
        ("--gradient-checkpointing true", lambda now: replace(now, gradient_checkpointing=True)),
    ]
    least = 2 if config.method == "kto" else 1
    for accumulation in range(config.accumulation + 1, config.batch_size // least + 1):
        if config.batch_size % accumulation == 0:
            found.append((f"--accumulation {accumulation}", _setting("accumulation", accumulation)))
    if config.quantization == "none" and not config.full:
        found.append(("--quantization nf4", _setting("quantization", "nf4")))
    if config.max_tokens >= 16:
        half = config.max_tokens // 2
        found.append((f"--max-tokens {half}", _setting("max_tokens", half)))
    return found


def _setting(name: str, value: object) -> Any:
    return lambda now: replace(now, **{name: value})
