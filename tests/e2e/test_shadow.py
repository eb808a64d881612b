"""A shadow on the real engine."""

import json
import time
from typing import Any

import httpx

from tests.e2e.conftest import Service

ROUTE = {
    "arms": [{"adapter": "sentiment@1", "share": 1}],
    "shadow": {"adapter": "sarcasm@1", "share": 1},
}
BODY = {
    "messages": [{"role": "user", "content": "area man passionate defender of what he imagines"}],
    "max_tokens": 8,
    "temperature": 0,
}
PATIENCE_S = 60


def ask(service: Service, model: str, *, stream: bool = False) -> httpx.Response:
    """Send a request; a worker hears of a new route within its next poll."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        body = {**BODY, "model": model, "stream": stream}
        answer = httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=120)
        if answer.status_code == 200:
            return answer
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.2)


def test_the_shadow_answers_as_it_would_have(service: Service) -> None:
    """A client's stream comes from the arm; the pair holds it, and what the shadow's version answers."""
    made = httpx.put(f"{service.url}/admin/routes/shadowed", json={"spec": ROUTE})
    assert made.status_code == 202, made.text
    try:
        streamed = ask(service, "shadowed", stream=True)
        assert streamed.headers["x-turnout-adapter"] == "sentiment@1"
        deadline = time.monotonic() + PATIENCE_S
        pairs: list[dict[str, Any]] = []
        while not pairs:
            assert time.monotonic() < deadline
            pairs = json.loads(service.turnout("routes", "shadow", "shadowed", "--json"))["data"]
        (pair,) = pairs
        assert (pair["id"], pair["shadow_status"]) == (streamed.headers["x-request-id"], 200)
        for label, text in (("sentiment@1", pair["answer"]), ("sarcasm@1", pair["shadow_answer"])):
            assert ask(service, label).json()["choices"][0]["message"]["content"] == text
        assert "sarcasm@1" in service.turnout("routes", "shadow", "shadowed")
    finally:
        httpx.delete(f"{service.url}/admin/routes/shadowed")
