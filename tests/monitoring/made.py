"""Rows made for the tests of monitoring, and a store in a folder to put them in."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from gateway.core.requests import RequestRow
from gateway.core.routes import Arm, Capture, RouteSpec, RouteStatus
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.requests import Requests

ROUTE = "support"
START = 1_700_000_000.0

_FILMS = (
    "Write a short review of a {adjective} film about {person} who lost {thing}.",
    "Was the ending of the {adjective} film with {person} and {thing} any good?",
    "Name a {adjective} scene in which {person} finds {thing}.",
)
_COOKING = (
    "How long do I bake a {adjective} cake with {ingredient} and {spice}?",
    "Give me a {adjective} recipe for {ingredient} soup with {spice}.",
    "Can I replace {ingredient} by {spice} in a {adjective} stew?",
)
_WORDS = {
    "adjective": ("quiet", "famous", "strange", "simple", "long", "cheap", "modern", "old"),
    "person": ("a detective", "two sisters", "an astronaut", "a painter", "a boxer", "a nurse"),
    "thing": ("a brother", "the map", "her memory", "an old car", "the last train", "a letter"),
    "ingredient": ("carrots", "lentils", "pumpkin", "rice", "flour", "tomatoes"),
    "spice": ("cumin", "ginger", "basil", "pepper", "salt", "thyme"),
}
TOPICS = {"films": _FILMS, "cooking": _COOKING}


def sentences(topic: str, count: int, *, seed: int) -> list[str]:
    """Return prompts of one topic, drawn independently."""
    draw = random.Random(seed)
    return [
        draw.choice(TOPICS[topic]).format(**{name: draw.choice(words) for name, words in _WORDS.items()})
        for _ in range(count)
    ]


def request_rows(
    prompts: Sequence[str | None],
    *,
    first: int = 0,
    seed: int = 0,
    answer_chars: float = 80,
    **changes: object,
) -> list[RequestRow]:
    """Return one answered request a prompt, a second apart, beginning `first` seconds after START."""
    draw = random.Random(seed + first)
    rows = []
    for offset, prompt in enumerate(prompts):
        number = first + offset
        answer = "x" * max(1, round(draw.gauss(answer_chars, 15)))
        values: dict[str, object] = {
            "id": f"req-{number}",
            "at": START + number,
            "endpoint": "chat.completions",
            "route": ROUTE,
            "arm": "support@1",
            "adapter": "support@1",
            "status": 200,
            "prompt_tokens": None if prompt is None else len(prompt) // 4,
            "completion_tokens": len(answer) // 4,
            "latency_ms": draw.gammavariate(2, 100),
            "ttft_ms": draw.gammavariate(2, 20),
            "finish_reason": "stop" if draw.random() < 0.9 else "length",
            "prompt": prompt,
            "answer": None if prompt is None else answer,
            "answer_id": f"chatcmpl-{number}",
            **changes,
        }
        rows.append(RequestRow(**values))  # type: ignore[arg-type]
    return rows


@contextmanager
def opened(folder: Path) -> Iterator[tuple[ControlStore, Requests]]:
    """Open the store of a state folder, migrated, and close it again."""
    control = Database(f"sqlite:///{folder / 'control.db'}", "control")
    requests = Database(f"sqlite:///{folder / 'requests.db'}", "requests")
    try:
        control.migrate()
        requests.migrate()
        yield ControlStore(control), Requests(requests)
    finally:
        control.close()
        requests.close()


def put_route(store: ControlStore, name: str = ROUTE, **spec: object) -> None:
    """Store a route with one arm and captured prompts."""
    fields: dict[str, object] = {"capture": Capture(mode="full"), **spec}
    store.routes.put(name, RouteSpec(arms=(Arm(adapter=f"{name}@1", share=1),), **fields), actor="test")  # type: ignore[arg-type]


def activate(store: ControlStore, name: str = ROUTE, *, arm: str = "support@1") -> float:
    """Let the route's arms become active, as the controller does, and return when that was."""
    route = store.routes.get(name)
    assert route is not None
    status = RouteStatus(state="active", effective_arms=(Arm(adapter=arm, share=1),))
    store.routes.set_status(name, status, generation=route.generation, actor="controller")
    return store.events.rows(name, limit=1)[0].at
