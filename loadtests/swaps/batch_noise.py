"""What sharing the engine's batch does to the answers of made adapters: how far ahead must a token be?

    python -m loadtests.swaps.batch_noise

An engine alone, no Turnout. Every adapter is asked alone, then by several clients at once, first beside
prompts like its own and then beside batches of other prompts. An answer that changes then is noise:
`swap-storm` must not take it for another version's.
"""

import asyncio
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from gateway.controller.attestation.prober import GENERAL_PROMPTS
from loadtests.common.fingerprints import BASE_NAME, PROMPT
from loadtests.common.made_adapters import make
from loadtests.common.processes import end_in_order
from loadtests.common.report import Sheet, console_for_people, number, publish
from loadtests.common.service import real_engine

BENCH = "batch-noise"
ADAPTERS = 40
CLIENTS = 4
REQUESTS = 40
TOKENS = 4


@dataclass(frozen=True, slots=True)
class Answer:
    """A text, its tokens, and how far each was ahead of the next likeliest, in nats."""

    text: str
    tokens: tuple[str, ...]
    gaps: tuple[float, ...]

    def gap_where_other(self, other: "Answer") -> float | None:
        """Return how far the first token was ahead that `other` has not; None when it has all."""
        for mine, theirs, gap in zip(self.tokens, other.tokens, self.gaps, strict=False):
            if mine != theirs:
                return gap
        return None


def main() -> int:
    """Ask, compare, and print what changed."""
    end_in_order()
    console = console_for_people()
    with tempfile.TemporaryDirectory(prefix="batch-noise-") as scratch:
        folder = Path(scratch)
        with real_engine(folder / "engine.log") as (_, url):
            figures = asyncio.run(_measure(folder, url))
    counts = ("asked", "changed", "as_another_adapter", "adapters_changed")
    nats = ("widest_gap_of_a_change", "largest_change_of_a_gap")
    rows = [
        [name, *(number(found[key]) for key in counts), *(number(found[key], 2) for key in nats)]
        for name, found in figures.items()
    ]
    columns = ["beside", *(key.replace("_", " ") for key in (*counts, *nats))]
    sheet = Sheet("Answers that depend on the batch (nats)", columns, rows)
    publish(BENCH, figures, sheet, console=console, history=True, partial=False)
    return 0


def compared(alone: Mapping[str, Answer], beside: list[tuple[str, Answer]]) -> dict[str, Any]:
    """Return how many answers changed, how far ahead tokens that gave way had been, and how gaps moved."""
    changed = {
        name: gap for name, answer in beside if (gap := alone[name].gap_where_other(answer)) is not None
    }
    moves = [
        abs(now - before)
        for name, answer in beside
        if answer.text == alone[name].text
        for now, before in zip(answer.gaps, alone[name].gaps, strict=True)
    ]
    return {
        "asked": len(beside),
        "changed": sum(answer.tokens != alone[name].tokens for name, answer in beside),
        "as_another_adapter": sum(
            any(answer.text == other.text for label, other in alone.items() if label != name)
            for name, answer in beside
        ),
        "adapters_changed": len(changed),
        "widest_gap_of_a_change": round(max(changed.values(), default=0.0), 3),
        "largest_change_of_a_gap": round(max(moves, default=0.0), 3),
    }


async def _measure(folder: Path, url: str) -> dict[str, Any]:
    async with httpx.AsyncClient(base_url=url, timeout=120, trust_env=False) as engine:
        alone = {}
        for seed in range(1, ADAPTERS + 1):
            name = f"made-{seed}"
            path = make(folder / name, seed, base_name=BASE_NAME)
            load = {"lora_name": name, "lora_path": str(path)}
            (await engine.post("/v1/load_lora_adapter", json=load)).raise_for_status()
            alone[name] = await _ask(engine, name)
        likes = await _crowd(engine, list(alone))
        others = asyncio.create_task(_others(engine, list(alone)))
        beside_others = await _crowd(engine, list(alone))
        others.cancel()
        await asyncio.gather(others, return_exceptions=True)
        return {
            "prompts like its own": compared(alone, likes),
            "other prompts": compared(alone, beside_others),
        }


async def _crowd(engine: httpx.AsyncClient, names: list[str]) -> list[tuple[str, Answer]]:
    """Ask as the clients of a storm do: all at once, half of them one adapter and half the next."""
    found: list[tuple[str, Answer]] = []

    async def client(number: int) -> None:
        for turn in range(REQUESTS):
            name = names[(2 * turn + turn // 3 + number % 2) % len(names)]
            found.append((name, await _ask(engine, name)))

    await asyncio.gather(*(client(number) for number in range(CLIENTS)))
    return found


async def _others(engine: httpx.AsyncClient, names: list[str]) -> None:
    """Ask what attestation asks, over and over, of other adapters and of the base model."""
    turn = 0
    while True:
        turn += 1
        for model in (names[7 * turn % len(names)], BASE_NAME):
            body = {"model": model, "prompt": list(GENERAL_PROMPTS), "max_tokens": 1, "cache_salt": str(turn)}
            (await engine.post("/v1/completions", json=body)).raise_for_status()


async def _ask(engine: httpx.AsyncClient, model: str) -> Answer:
    body = {"model": model, "prompt": PROMPT, "max_tokens": TOKENS, "temperature": 0, "logprobs": 2}
    answer = await engine.post("/v1/completions", json=body)
    answer.raise_for_status()
    choice = answer.json()["choices"][0]
    tops = [sorted(top.values(), reverse=True) for top in choice["logprobs"]["top_logprobs"]]
    tokens = tuple(choice["logprobs"]["tokens"])
    return Answer(choice["text"], tokens, tuple(top[0] - top[1] for top in tops))


if __name__ == "__main__":
    sys.exit(main())
