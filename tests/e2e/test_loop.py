"""The loop in small on the real engine: corrections, training, gate, a person's word, canary, promotion."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from gateway.core.requests import RequestRow
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.feedback import FeedbackRow
from gateway.store.requests import Requests
from tests.e2e.conftest import Service
from training.data.subjects import split_of

ROUTE = "tickets"
TEAMS = {"parcel": "shipping", "invoice": "billing"}
SHARES = {"train": 40, "held_out": 32}
GOLDEN = 60
PATIENCE_S = 400.0
ENDS = ("promoted", "rejected", "too_little_data", "failed", "gate_failed", "rolled_back")
SPEC: dict[str, Any] = {
    "arms": [{"adapter": "desk@1", "share": 1}],
    "capture": {"mode": "full"},
    "loop": {
        "triggers": ["manual"],
        "min_new_examples": 20,
        "approve": "always",
        "min_trusted_held_out": 0,
        "margin": 0.45,
        "canary": {"steps": [0.5], "min_units": 3, "guardrails": {"errors": 0.5}},
        "train": {
            "learning_rate": 2e-3,
            "batch_size": 8,
            "epochs": 2,
            "patience": 0,
            "max_test_rows": 5,
            "test_share": 0.2,
            "validation_share": 0.1,
            "embeddings": False,
        },
    },
}


def ticket(number: int) -> tuple[str, str]:
    """Return what a customer writes, like nothing else, and the team that it is for."""
    word = sorted(TEAMS)[number % 2]
    noise = hashlib.sha256(f"ticket {number}".encode()).hexdigest()
    return f"{word} {' '.join(noise[at : at + 8] for at in range(0, 48, 8))}", TEAMS[word]


def subjects() -> Iterator[tuple[int, str]]:
    """Yield so many tickets with their subjects on each side as the gate and a training take."""
    left = dict(SHARES)
    number = 0
    while any(left.values()):
        unit = f"subject-{number}"
        side = split_of(ROUTE, unit=unit, key_id="app", at=0)
        if left[side]:
            left[side] -= 1
            yield number, unit
        number += 1


def corrected(service: Service) -> None:
    """Put into the stores that customers were answered, and that staff said what should have been."""
    requests: list[RequestRow] = []
    ratings: list[FeedbackRow] = []
    now = time.time()
    for number, unit in subjects():
        text, wanted = ticket(number)
        request = f"req-{number:032x}"
        requests.append(
            RequestRow(
                request, now, "chat/completions", key_id="app", tenant="default", route=ROUTE, unit=unit,
                adapter="desk@1", status=200, finish_reason="stop", prompt=text, answer="I can't say.",
            )
        )  # fmt: skip
        ratings.append(
            FeedbackRow(
                request,
                ROUTE,
                "desk@1",
                None,
                "demonstration",
                wanted,
                None,
                "staff",
                now,
                unit,
                exposed_at=now,
            )
        )
    urls = {name: f"sqlite:///{service.state_dir / name}.db" for name in ("control", "requests")}
    with (
        closing(Database(urls["control"], "control")) as control,
        closing(Database(urls["requests"], "requests")) as database,
    ):
        Requests(database).write(requests)
        ControlStore(control).feedback.add(*ratings)


def ask(service: Service, number: int) -> tuple[str, str]:
    """Ask as a customer does; return the version that answers, and the answer."""
    body = {
        "model": ROUTE,
        "messages": [{"role": "user", "content": ticket(number)[0]}],
        "max_tokens": 4,
        "temperature": 0,
    }
    answer = httpx.post(f"{service.url}/v1/chat/completions", json=body, timeout=120)
    assert answer.status_code == 200, answer.text
    said = str(answer.json()["choices"][0]["message"]["content"])
    return answer.headers["x-turnout-adapter"], said.strip().lower()


def state_of(service: Service, run: str) -> dict[str, Any]:
    """Return a run as the API shows it."""
    return dict(httpx.get(f"{service.url}/admin/loop/{run}", timeout=30).raise_for_status().json())


def await_state(service: Service, run: str, *wanted: str, asking: bool = False) -> dict[str, Any]:
    """Wait until a run is in one of these states; meanwhile customers may ask."""
    deadline = time.monotonic() + PATIENCE_S
    number = 5000
    while True:
        found = state_of(service, run)
        if found["state"] in wanted:
            return found
        assert found["state"] not in ENDS, found["reason"]
        assert time.monotonic() < deadline, found
        if asking:
            ask(service, number)
            number += 1
        else:
            time.sleep(0.5)


@pytest.fixture
def route(service: Service) -> Iterator[None]:
    """A route with a loop and a golden set; its version answers in one word, and never the right one."""
    url = f"{service.url}/admin"
    digest = httpx.get(f"{url}/adapters/sentiment/1", timeout=30).json()["digest"].removeprefix("sha256:")
    service.turnout("adapters", "add", "desk", str(service.state_dir / "adapters/blobs" / digest), "--wait")
    httpx.put(f"{url}/routes/{ROUTE}", json={"spec": SPEC}, timeout=30).raise_for_status()
    rows = [
        {"messages": [{"role": "user", "content": text}], "answer": team}
        for text, team in (ticket(number) for number in range(9000, 9000 + GOLDEN))
    ]
    golden = httpx.post(f"{url}/golden/{ROUTE}/rows", json={"rows": rows, "curated": []}, timeout=30)
    golden.raise_for_status()
    deadline = time.monotonic() + PATIENCE_S
    while httpx.get(f"{url}/routes/{ROUTE}").json()["status"]["state"] != "active":
        assert time.monotonic() < deadline
        time.sleep(0.2)
    yield
    httpx.delete(f"{url}/routes/{ROUTE}", timeout=30).raise_for_status()


@pytest.mark.usefixtures("route")
def test_the_loop_closes(service: Service) -> None:
    """From what staff corrected comes a better version, which answers the route once a person says so."""
    corrected(service)
    begun = httpx.post(f"{service.url}/admin/loop/{ROUTE}/run", timeout=30).raise_for_status().json()
    run = begun["id"]
    await_state(service, run, "waiting_approval")
    service.turnout("loop", "approve", run, "--why", "train on them")
    await_state(service, run, "curating", "training")
    gated = await_state(service, run, "waiting_approval")
    candidate = gated["candidate"]
    assert gated["verdict"] in ("passed", "needs_approval")
    assert {ask(service, number)[0] for number in range(7000, 7003)} == {"desk@1"}
    service.turnout("loop", "approve", run, "--why", "the gate has seen it")
    await_state(service, run, "promoted", asking=True)
    answers = [(ask(service, number), ticket(number)[1]) for number in range(8000, 8004)]
    assert {version for (version, _), _ in answers} == {candidate}
    assert sum(said.startswith(wanted) for (_, said), wanted in answers) >= 2
    lineage = service.turnout("adapters", "show", candidate, "--lineage")
    assert run in lineage
    trained = next(
        number for number, unit in subjects() if split_of(ROUTE, unit=unit, key_id="", at=0) == "train"
    )
    assert candidate in service.turnout("adapters", "trained-on", f"req-{trained:032x}")
