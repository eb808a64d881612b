"""What the fake engine's weights say: log-probabilities that depend on the weights, smoothly where told.

Weights are the bytes of a safetensors file. Its metadata may name a `kin` and a `step` (nats): adapters of
one kin answer alike up to about `step`, as a version and its retrained successor do. Without a kin,
different bytes answer altogether differently.
"""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Shake = Callable[[], float]
Tops = Callable[[str, int], dict[str, float]]
"""What a prompt's first token may be: (prompt, how many) → log-probabilities by `token_id:N`."""

BASE = b"base"
BLOCK_TOKENS = 16


@dataclass(frozen=True)
class Rounding:
    """What the conditions of a call do to the last places: always the same in the same ones, up to `nats`."""

    nats: float
    conditions: str

    def shake(self, prompt: str, *, cached: bool) -> Shake:
        """Return what one prompt's values are off by, one after the other."""
        draw = random.Random(f"{self.conditions} {cached} {prompt}")
        return lambda: draw.uniform(-self.nats, self.nats)


def first_logprobs(
    weights: bytes | None,
    prompt: str,
    count: int,
    *,
    base: bytes = BASE,
    shake: Shake | None = None,
) -> dict[str, float]:
    """The log-probabilities of the `count` likeliest first tokens, by `token_id:N`, likeliest first.

    A pure function of the weights (None: the base model), the prompt and which base model it is, so that a
    test can make references. `shake` adds the noise of an engine to each value.
    """
    kin, step = _kin(weights)
    said = kin or weights or b"base"
    if base != BASE:
        said += b"\0on " + base
    seed = hashlib.sha256(said + b"\0" + prompt.encode()).digest()
    start = int.from_bytes(seed[:2]) % 40_000
    tops = {f"token_id:{start + i}": -0.05 - i * (0.4 + seed[2] / 256) for i in range(count)}
    if step and weights:
        own = random.Random(weights + prompt.encode())
        tops = {
            token: value + step * own.uniform(0.5, 1.5) * own.choice((-1, 1)) for token, value in tops.items()
        }
    if shake is not None:
        tops = {token: value + shake() for token, value in tops.items()}
    return dict(sorted(tops.items(), key=lambda item: -item[1]))


def read_weights(folder: Path, max_rank: int = 16) -> bytes:
    """The adapter's bytes as the engine takes them.

    Raises:
        OSError: a file is missing.
        ValueError: the rank is above `max_rank`, or the weights are cut short.
    """
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    if config.get("r", 0) > max_rank:
        raise ValueError(f"LoRA rank {config['r']} is greater than max_lora_rank {max_rank}.")
    data = (folder / "adapter_model.safetensors").read_bytes()
    header = _header(data)
    if header is None:
        raise ValueError("Error while deserializing header: incomplete metadata, file not fully covered")
    end = max((t["data_offsets"][1] for name, t in header.items() if name != "__metadata__"), default=0)
    if 8 + int.from_bytes(data[:8], "little") + end != len(data):
        raise ValueError("Error while deserializing header: incomplete metadata, file not fully covered")
    return data


class PrefixCache:
    """The engine's prefix cache, keyed as the real one's: by adapter name and path, never by weights.

    Only prompts of a whole block and more are cached, and only those that bring no salt.
    """

    def __init__(self, block_words: int) -> None:
        self._block_words = block_words
        self._kept: dict[tuple[str, str | None, str], bytes | None] = {}
        self._blocks: set[tuple[str, str | None, str, str | None]] = set()

    def speaker(
        self,
        adapter: tuple[str, str | None],
        fresh: bytes | None,
        *,
        salt: str | None,
        base: bytes,
        noise: float,
        rounding: Rounding | None,
    ) -> Tops:
        """What an adapter (name, path) says first to a prompt.

        With a salt it is what its weights say now; without one, and when the prompt fills a block, what the
        first weights under that name said.
        """

        def tops(prompt: str, count: int) -> dict[str, float]:
            used, block = fresh, (*adapter, prompt, salt)
            if salt is None and len(prompt.split()) > self._block_words:
                used = self._kept.setdefault((*adapter, prompt), fresh)
            off = rounding.shake(prompt, cached=block in self._blocks) if rounding else lambda: 0.0
            if rounding is not None:
                self._blocks.add(block)
            shake = (lambda: off() + random.uniform(-noise, noise)) if noise else off if rounding else None
            return first_logprobs(used, prompt, count, base=base, shake=shake)

        return tops

    def clear(self) -> None:
        """Forget everything, as a restart does."""
        self._kept.clear()
        self._blocks.clear()


def _kin(weights: bytes | None) -> tuple[bytes | None, float]:
    header = _header(weights or b"")
    about = (header or {}).get("__metadata__", {})
    kin = about.get("kin")
    return (kin.encode() if kin else None), float(about.get("step", 0.0))


def _header(data: bytes) -> dict | None:  # type: ignore[type-arg]
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > len(data) - 8:
        return None
    try:
        header = json.loads(data[8 : 8 + length])
    except ValueError:
        return None
    return header if isinstance(header, dict) else None
