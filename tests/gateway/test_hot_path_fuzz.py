"""Twenty thousand requests that a grammar makes, at the hot paths: never a 5xx, a hang or another's words."""

import asyncio
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from gateway.core.limits import Limits
from tests.gateway.attackers import Fort, fort
from tests.gateway.harness import wait_until
from tests.gateway.http_grammar import Grammar, Sent

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "9"))
CLIENTS = 16
PATIENCE_S = 20.0
MARKS = {"inference": "the-words-of-one", "stranger": "the-words-of-another"}


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fort]:
    """One gateway for the module."""
    with fort(tmp_path_factory.mktemp("state")) as built:
        yield built


@dataclass
class Seen:
    """What came back. `bad` are requests with answers that should not have been."""

    statuses: Counter[int] = field(default_factory=Counter)
    bad: list[tuple[str, bytes, bytes]] = field(default_factory=list)


class Client:
    """One client: it keeps its connection for as long as it can."""

    def __init__(self, url: str, grammar: Grammar, seen: Seen) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._grammar = grammar
        self._seen = seen
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, count: int) -> None:
        """Send so many requests."""
        for _ in range(count):
            sent = self._grammar.request()
            try:
                async with asyncio.timeout(PATIENCE_S):
                    got = await self._exchange(sent)
            except TimeoutError:
                self._seen.bad.append(("hang", sent.raw, b""))
                self._close()
                continue
            self._judge(sent, got)
        self._close()

    async def _exchange(self, sent: Sent) -> bytes:
        """Send a request; return its answer, or all that comes until the connection ends."""
        if self._stream is None:
            self._stream = await asyncio.open_connection(*self._address)
        reader, writer = self._stream
        try:
            writer.write(sent.raw)
            if not sent.whole:
                writer.write_eof()
            return await (_answer(reader) if sent.whole else reader.read(-1))
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            self._close()
            return getattr(error, "partial", b"")
        finally:
            if not sent.whole or reader.at_eof() or writer.is_closing():
                self._close()

    def _judge(self, sent: Sent, got: bytes) -> None:
        status = int(got[9:12]) if got.startswith(b"HTTP/1.1 ") and got[9:12].isdigit() else 0
        self._seen.statuses[status] += 1
        if b"connection: close" in got.lower():
            self._close()
        others = [mark for tenant, mark in MARKS.items() if tenant != sent.tenant]
        if status >= 500:
            self._seen.bad.append(("status", sent.raw, got))
        elif sent.whole and not status:
            self._seen.bad.append(("no answer", sent.raw, got))
        elif any(mark.encode() in got for mark in others):
            self._seen.bad.append(("another's words", sent.raw, got))

    def _close(self) -> None:
        if self._stream is not None:
            self._stream[1].close()
        self._stream = None


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """Read one answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        body = b""
        while not body.endswith(b"0\r\n\r\n"):
            body += await reader.readuntil(b"\r\n")
        return head + body
    at = lower.find(b"content-length: ")
    if at < 0:
        return head + await reader.read(-1)
    length = int(lower[at + 16 : lower.index(b"\r\n", at)])
    return head + await reader.readexactly(length)


def test_a_grammar_of_requests(there: Fort) -> None:
    """Whatever comes is answered below 500, or its connection ends; no tenant sees another's words."""
    keys = {"inference": there.inference, "stranger": there.stranger}
    seen = Seen()
    wide = Limits(requests_per_minute=10**6, tokens_per_minute=10**9, concurrent=1000, tokens_per_day=10**9)
    there.gateway.store.control.limits.put("tenant", "elsewhere", wide, actor="test", why=None)
    there.gateway.settle()

    async def crowd() -> None:
        clients = [Client(there.gateway.url, Grammar(SEED + i, keys, MARKS), seen) for i in range(CLIENTS)]
        await asyncio.gather(*(client.run(REQUESTS // CLIENTS) for client in clients))

    asyncio.run(crowd())
    assert not seen.bad, seen.bad[:5]
    assert seen.statuses[200] > REQUESTS // 20
    assert sum(seen.statuses.values()) == REQUESTS // CLIENTS * CLIENTS
    assert there.gateway.ready()["ready"]
    wait_until(lambda: there.gateway.ready()["in_flight"] == 0)
    accounts = there.gateway.app.state.gateway.limits.ledger.accounts
    left = {
        owner.kind: account.used(0.0) for owner, account in accounts.items() if owner.kind == "concurrent"
    }
    assert left == {"concurrent": 0}  # whatever became of a request, its place was given back
