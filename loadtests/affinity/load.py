"""A skewed mix of chats: clients in a closed loop, each adapter with a long system prompt of its own."""

import asyncio
import json
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

WORDS = [
    "account",
    "answer",
    "balance",
    "branch",
    "carrier",
    "charge",
    "claim",
    "client",
    "contract",
    "courier",
    "delay",
    "delivery",
    "deposit",
    "device",
    "discount",
    "dispatch",
    "document",
    "driver",
    "email",
    "escalate",
    "exchange",
    "failure",
    "fee",
    "form",
    "goods",
    "handover",
    "hotline",
    "income",
    "inquiry",
    "invoice",
    "item",
    "label",
    "ledger",
    "letter",
    "limit",
    "line",
    "loan",
    "mailbox",
    "manager",
    "message",
    "meter",
    "notice",
    "number",
    "office",
    "order",
    "outage",
    "package",
    "parcel",
    "partner",
    "payment",
    "permit",
    "phone",
    "plan",
    "policy",
    "portal",
    "premium",
    "price",
    "product",
    "profile",
    "purchase",
    "quality",
    "queue",
    "quote",
    "rate",
    "receipt",
    "record",
    "refund",
    "region",
    "reminder",
    "renewal",
    "repair",
    "reply",
    "report",
    "request",
    "return",
    "review",
    "route",
    "safety",
    "sample",
    "schedule",
    "sender",
    "service",
    "shipment",
    "signal",
    "stock",
    "supplier",
    "support",
    "switch",
    "table",
    "tariff",
    "team",
    "term",
    "ticket",
    "token",
    "tracking",
    "transfer",
    "unit",
    "update",
    "value",
    "vendor",
    "voucher",
    "warranty",
    "weight",
    "window",
]


@dataclass(frozen=True)
class Mix:
    """The traffic. `zipf` is the exponent of Zipf's law over the adapters."""

    clients: int = 6
    zipf: float = 0.9
    system_words: int = 380
    user_words: int = 12
    max_tokens: int = 12


@dataclass
class Heard:
    """What clients saw: when each answer ended, its first token's wait, its tokens; and what failed.

    `cpu_s` is the CPU time of the engines from the end of the warm-up on.
    """

    ended: list[tuple[float, float, int]] = field(default_factory=list)
    cpu_s: float = 0.0
    failed: list[str] = field(default_factory=list)


def system_prompts(names: Sequence[str], mix: Mix) -> dict[str, str]:
    """Return each adapter's own instructions."""
    prompts = {}
    for number, name in enumerate(names):
        rng = random.Random(number)
        prompts[name] = f"You work for desk {name}. " + " ".join(rng.choices(WORDS, k=mix.system_words))
    return prompts


def run(
    address: str,
    key: str,
    names: Sequence[str],
    mix: Mix,
    *,
    warm_up_s: float,
    seconds: float,
    seed: int,
    cpu_s: Callable[[], float],
) -> Heard:
    """Load the gateway for a while and return what was heard after the warm-up."""
    readings: list[float] = []
    timer = threading.Timer(warm_up_s, lambda: readings.append(cpu_s()))
    timer.start()
    ending = threading.Timer(warm_up_s + seconds, lambda: readings.append(cpu_s()))
    ending.start()
    heard = asyncio.run(_run(address, key, names, mix, total_s=warm_up_s + seconds, seed=seed))
    timer.join()
    ending.join()
    heard.cpu_s = readings[1] - readings[0]
    heard.ended = [entry for entry in heard.ended if warm_up_s <= entry[0] <= warm_up_s + seconds]
    return heard


async def _run(address: str, key: str, names: Sequence[str], mix: Mix, *, total_s: float, seed: int) -> Heard:
    heard = Heard()
    draws = _draws(names, mix, random.Random(seed))
    prompts = system_prompts(names, mix)
    limits = httpx.Limits(max_connections=mix.clients)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        base_url=address, headers=headers, timeout=120, trust_env=False, limits=limits
    ) as http:
        began = time.monotonic()

        async def client(number: int) -> None:
            rng = random.Random(seed * 1000 + number)
            while time.monotonic() - began < total_s:
                name = next(draws)
                words = " ".join(rng.choices(WORDS, k=mix.user_words))
                await _chat(http, _body(name, prompts[name], words, mix), heard, began)

        await asyncio.gather(*(client(number) for number in range(mix.clients)))
    return heard


def _draws(names: Sequence[str], mix: Mix, rng: random.Random) -> Iterator[str]:
    weights = [1 / (rank + 1) ** mix.zipf for rank in range(len(names))]
    while True:
        yield from rng.choices(list(names), weights, k=100)


def _body(name: str, system: str, user: str, mix: Mix) -> dict[str, Any]:
    return {
        "model": name,
        "messages": [{"role": "system", "content": system}, {"role": "user", "content": user}],
        "max_tokens": mix.max_tokens,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def _chat(http: httpx.AsyncClient, body: dict[str, Any], heard: Heard, began: float) -> None:
    sent = time.monotonic()
    first: float | None = None
    tokens = 0
    try:
        async with http.stream("POST", "/v1/chat/completions", json=body) as answer:
            if answer.status_code != 200:
                text = (await answer.aread()).decode(errors="replace")
                heard.failed.append(f"{answer.status_code} {text[:200]}")
                await asyncio.sleep(0.5)
                return
            async for line in answer.aiter_lines():
                if not line.startswith("data: {"):
                    continue
                event = json.loads(line[6:])
                if first is None and any(choice["delta"].get("content") for choice in event["choices"]):
                    first = time.monotonic() - sent
                if event.get("usage"):
                    tokens = int(event["usage"]["completion_tokens"])
    except httpx.HTTPError as error:
        heard.failed.append(type(error).__name__)
        await asyncio.sleep(0.5)
        return
    now = time.monotonic()
    heard.ended.append((now - began, now - sent if first is None else first, tokens))
