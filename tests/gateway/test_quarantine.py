"""Requests under which an engine died: known by a keyed hash, refused for a while, told to other workers."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.errors import Unprocessable
from gateway.replicas.quarantine import Quarantine

KEY = b"k" * 32
CHAT = "/v1/chat/completions"
BODY: dict[str, Any] = {"model": "a@1", "messages": [{"role": "user", "content": "x"}], "cache_salt": "s"}
Published = list[tuple[str, Sequence[str], float]]


def made(key: bytes = KEY, *, refused_for_s: float = 60.0) -> tuple[Quarantine, Published]:
    """A quarantine, and what it publishes."""
    published: Published = []
    quarantine = Quarantine(key, publish=lambda *said: published.append(said), refused_for_s=refused_for_s)
    return quarantine, published


def refuses(quarantine: Quarantine, path: str, requested: str, payload: bytes) -> bool:
    """Whether a request is refused."""
    try:
        quarantine.check(path, requested, payload)
    except Unprocessable as error:
        return error.code == "query_of_death"
    return False


SAME = json.dumps(BODY).encode()


@pytest.mark.parametrize(
    ("path", "requested", "payload", "refused"),
    [
        (CHAT, "a", SAME, True),
        (CHAT, "a", json.dumps({**BODY, "model": "a@2", "request_id": "r", "priority": 1}).encode(), True),
        (CHAT, "a", json.dumps(dict(reversed(BODY.items()))).encode(), True),
        (CHAT, "b", SAME, False),
        ("/v1/completions", "a", SAME, False),
        (CHAT, "a", json.dumps({**BODY, "seed": 1}).encode(), False),
        (CHAT, "a", b"no json", False),
    ],
)
def test_what_counts_as_the_same_request(path: str, requested: str, payload: bytes, *, refused: bool) -> None:
    """Endpoint, requested model and what the client sent make a request; what the gateway adds does not."""

    async def work() -> None:
        quarantine, _ = made()
        assert quarantine.empty
        quarantine.add(CHAT, "a", SAME, replica="e0")
        assert not quarantine.empty
        assert refuses(quarantine, path, requested, payload) is refused

    asyncio.run(work())


def test_it_ends() -> None:
    """After its time a request is let through again, and nothing is kept."""

    async def work() -> None:
        quarantine, _ = made(refused_for_s=0.02)
        quarantine.add(CHAT, "a", SAME, replica="e0")
        await asyncio.sleep(0.03)
        assert not refuses(quarantine, CHAT, "a", SAME)
        assert quarantine.empty

    asyncio.run(work())


def test_other_workers_learn_of_it() -> None:
    """Those that went down together are published together; whoever has the same key refuses them too."""

    async def work() -> None:
        quarantine, published = made()
        for replica, model in (("e0", "a"), ("e0", "b"), ("e1", "c")):
            quarantine.add(CHAT, model, SAME, replica=replica)
        async with asyncio.timeout(30):
            while not published:  # noqa: ASYNC110 - it is called by a timer
                await asyncio.sleep(0.005)
        assert [(replica, len(found)) for replica, found, _ in published] == [("e0", 2), ("e1", 1)]
        peer, stranger = made()[0], made(b"other")[0]
        for _, fingerprints, until in published:
            for each in (peer, stranger):
                each.learn(dict.fromkeys(fingerprints, until))
        assert [refuses(peer, CHAT, model, SAME) for model in "abcd"] == [True, True, True, False]
        assert not refuses(stranger, CHAT, "a", SAME)

    asyncio.run(work())


def test_nobody_makes_it_last() -> None:
    """What another worker says is bounded by our own time, and what is over already is not kept."""
    quarantine, _ = made()
    quarantine.learn({"f": 1e12, "g": 1.0})
    assert not quarantine.empty
    assert max(quarantine._until.values()) < 1e11
    assert set(quarantine._until) == {"f"}
