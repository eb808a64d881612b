"""What must be true of the real engine as `turnout serve` starts it."""

import asyncio

import httpx

from adapters.answers import difference
from tests.e2e.conftest import Service

BASE = "SmolLM2-135M-Instruct"
ADAPTERS = ("sentiment@1", "sarcasm@1", "entities@1", "second@1")
PROMPT = "The capital of France is"


async def _first_token(client: httpx.AsyncClient, model: str, prompt: str) -> dict[str, float]:
    """Return the most likely first tokens with their log-probabilities."""
    answer = await client.post(
        "/v1/completions",
        json={"model": model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": 5},
    )
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["model"] == model
    found: dict[str, float] = body["choices"][0]["logprobs"]["top_logprobs"][0]
    return found


def test_the_base_model_answers_alike_beside_adapters(service: Service) -> None:
    """A base request that shares its steps with adapters in every slot is answered by the base alone.

    vLLM's CPU operations apply the last slot's adapter to it (vLLM pull request 48421); our plugin for the
    engine keeps them from it.
    """
    library = service.state_dir / "adapters" / "blobs"
    second = next(path for path in sorted(library.iterdir()) if path.is_dir())
    service.turnout("adapters", "add", "second", str(second), "--wait")

    async def ask() -> tuple[dict[str, float], list[list[dict[str, float]]]]:
        limits = httpx.Limits(max_connections=64)
        async with httpx.AsyncClient(base_url=service.url, timeout=120, limits=limits) as client:
            alone = await _first_token(client, BASE, PROMPT)
            crowds = []
            for names in ((BASE,) * len(ADAPTERS), ADAPTERS):
                crowd = [
                    _first_token(client, name, f"{PROMPT} {number}") for number in range(3) for name in names
                ]
                beside = [_first_token(client, BASE, PROMPT) for _ in range(3)]
                mixed = [task for group in zip(beside, crowd[:3], strict=True) for task in group]
                results = await asyncio.gather(*mixed, *crowd[3:])
                crowds.append(results[0:6:2])
            own = [await _first_token(client, name, PROMPT) for name in ADAPTERS]
            return alone, [*crowds, own]

    alone, (beside_base, beside_adapters, own) = asyncio.run(ask())
    # Some CPUs round another batch in another way, with adapters or without.
    rounding = max(difference(answer, alone) for answer in beside_base)
    limit = max(0.05, 3 * rounding)
    assert max(difference(answer, alone) for answer in beside_adapters) < limit
    assert max(difference(answer, alone) for answer in own) > 2 * limit
