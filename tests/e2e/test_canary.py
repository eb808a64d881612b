"""Canaries on the real engine, in small: a disliked candidate goes and a good one stays, unattended."""

import json
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.conftest import Service

REVIEWS = [
    "A wonderful film, moving from the first minute to the last.",
    "Dull, slow and far too long.",
    "I loved every scene of it.",
    "The worst evening I have spent in a cinema.",
    "A clever story with splendid actors.",
    "Two hours of my life that I will not get back.",
]
# What the adapter was trained on: without it, half of its answers are no labels either.
INSTRUCTION = "Is this movie review positive or negative? Answer with one word."
LABELS = ("positive", "negative")
BATCH = 12
BATCHES = 20
WINDOW_S = 4.0
LOOK_S = 15.0
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Given:
    """One answer: the arm that gave it, and whether the script liked it."""

    arm: str
    liked: bool


def like_labels(answer: str) -> bool:
    """Like what the route is for: a label as the program that asks can read it, and nothing else."""
    return answer.strip() in LABELS


def ask(url: str, route: str, number: int) -> Given:
    """Ask as a client does, and rate the answer as its user does."""
    content = f"{INSTRUCTION}\n\n{REVIEWS[number % len(REVIEWS)]} ({number})"
    body = {
        "model": route,
        "messages": [{"role": "user", "content": content}],
        "max_tokens": 4,
        "temperature": 0,
    }
    answer = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    liked = like_labels(answer.json()["choices"][0]["message"]["content"])
    rating = {"request_id": answer.headers["x-request-id"], "metric": "thumbs", "value": liked}
    httpx.post(f"{url}/v1/feedback", json=rating, timeout=30).raise_for_status()
    return Given(answer.headers["x-turnout-arm"], liked)


def begin(service: Service, folder: Path, route: str, *, stable: str, candidate: str) -> None:
    """Apply a route with a canary, as a person does."""
    spec = {
        "arms": [{"adapter": stable, "share": 1.0}],
        "canary": {
            "candidate": candidate,
            "steps": [0.4, 1.0],
            "min_units": 15,
            "guardrails": {"thumbs": 0.3, "errors": 0.3},
        },
        "metrics": {"thumbs": {"primary": True, "window_h": WINDOW_S / 3600}},
    }
    file = folder / f"{route}.json"
    file.write_text(json.dumps({"routes": {route: spec}}))
    service.turnout("routes", "apply", "-f", str(file), "--wait")


def await_workers(service: Service) -> None:
    """Wait until every worker serves what the store says now."""
    wanted = httpx.get(f"{service.url}/admin/status", timeout=30).json()["generation"]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        workers = httpx.get(f"{service.url}/admin/status", timeout=30).json()["workers"]
        if all(row["applied_generation"] >= wanted for row in workers if row["alive"]):
            return
        assert time.monotonic() < deadline, workers
        time.sleep(0.2)


def run_until(service: Service, route: str, over: Callable[[dict[str, Any]], bool]) -> list[Given]:
    """Ask and rate until the canary is over; what clients do is all that happens."""
    given: list[Given] = []
    with ThreadPoolExecutor(3) as pool:
        for _ in range(BATCHES):
            numbers = range(len(given), len(given) + BATCH)
            given += pool.map(lambda number: ask(service.url, route, number), numbers)
            deadline = time.monotonic() + (LOOK_S if len(given) >= 4 * BATCH else 0)
            while True:
                found = httpx.get(f"{service.url}/admin/routes/{route}").json()["status"]["canary"]
                if over(found):
                    await_workers(service)
                    return given
                if time.monotonic() >= deadline:
                    break
                time.sleep(0.5)
    pytest.fail(f"the canary is not over: {service.turnout('routes', 'show', route)}")


def test_a_disliked_candidate_is_rolled_back(service: Service, tmp_path: Path) -> None:
    """Its users' thumbs alone take it away, and no more than its step's share of them ever met it."""
    begin(service, tmp_path, "reviews", stable="sentiment@1", candidate="entities@1")
    given = run_until(service, "reviews", lambda canary: canary["state"] != "running")
    route = httpx.get(f"{service.url}/admin/routes/reviews").json()
    canary = route["status"]["canary"]
    print(canary["reason"], Counter(given))  # noqa: T201 - for whoever reads a failure
    assert canary["state"] == "rolled_back"
    assert canary["reason"].startswith("thumbs is breached")
    assert [(arm["adapter"], arm["share"]) for arm in route["status"]["effective_arms"]] == [
        ("sentiment@1", 1.0)
    ]
    met = Counter(one.arm for one in given)
    assert met["entities@1"] <= 0.4 * len(given) + 4 * (0.24 * len(given)) ** 0.5
    after = Counter(ask(service.url, "reviews", number).arm for number in range(5))
    assert after == {"sentiment@1": 5}
    history = service.turnout("routes", "history", "reviews")
    assert "thumbs is breached" in history
    assert "rolled back" in service.turnout("routes", "show", "reviews")


def test_a_good_candidate_is_promoted(service: Service, tmp_path: Path) -> None:
    """One that answers as well passes its step and gets all the traffic."""
    library = service.state_dir / "adapters" / "blobs"
    version = httpx.get(f"{service.url}/admin/adapters/sentiment/1").json()
    blob = library / version["digest"].removeprefix("sha256:")
    service.turnout("adapters", "add", "twin", str(blob), "--wait")
    begin(service, tmp_path, "opinions", stable="sentiment@1", candidate="twin@1")
    run_until(service, "opinions", lambda canary: canary["state"] != "running")
    route = httpx.get(f"{service.url}/admin/routes/opinions").json()
    assert route["status"]["canary"]["state"] == "promoted"
    assert [arm["adapter"] for arm in route["status"]["effective_arms"]] == ["twin@1"]
    assert {ask(service.url, "opinions", number).arm for number in range(3)} == {"twin@1"}
