"""A gateway with keys, for tests that attack it byte by byte."""

import contextlib
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from gateway.core.requests import Role
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.gateway.harness import Gateway, running, settings_for

CHAT = "/v1/chat/completions"
BODY = b'{"model":"support","messages":[{"role":"user","content":"hello"}]}'


@dataclass(frozen=True)
class Fort:
    """A gateway that asks for keys, in front of one engine with `support@1` and `other@1`.

    `inference` may use everything, `scoped` the route `support` alone, `stranger` is another tenant's.
    """

    gateway: Gateway
    engine: FakeEngine
    inference: str
    scoped: str
    stranger: str
    feedback: str
    admin: str

    @contextmanager
    def connected(self) -> Iterator[socket.socket]:
        """A connection to the gateway."""
        address = httpx.URL(self.gateway.url)
        with socket.create_connection((address.host, address.port or 0), timeout=30) as there:
            yield there

    def say(self, sent: bytes) -> bytes:
        """Send bytes, say that no more will come, and return everything that comes back."""
        with self.connected() as there:
            with contextlib.suppress(OSError):  # it may have ended the connection already
                there.sendall(sent)
                there.shutdown(socket.SHUT_WR)
            return rest(there)

    def ask(self, sent: bytes, end: bytes = b"\r\n\r\n") -> bytes:
        """Send bytes, and return what comes until `end` or the end of the connection."""
        got = b""
        with self.connected() as there:
            with contextlib.suppress(OSError):
                there.sendall(sent)
            while end not in got and (piece := _some(there)):
                got += piece
        return got

    def head(self, *lines: str, path: str = CHAT, key: str | None = None, method: str = "POST") -> bytes:
        """The head of a request as a client writes it, with these lines more, up to its empty line."""
        every = [
            f"{method} {path} HTTP/1.1",
            "Host: x",
            f"Authorization: Bearer {key or self.inference}",
            "Content-Type: application/json",
            *lines,
        ]
        return "".join(f"{line}\r\n" for line in every).encode("latin-1") + b"\r\n"


def rest(there: socket.socket) -> bytes:
    """Read until the connection ends."""
    got = b""
    while piece := _some(there):
        got += piece
    return got


def _some(there: socket.socket) -> bytes:
    try:
        return there.recv(65536)
    except ConnectionResetError:
        return b""


@contextmanager
def fort(state_dir: Path, **limits: float) -> Iterator[Fort]:
    """Build it; `limits` are more of them than small sizes."""
    settings = settings_for(
        state_dir,
        limits={
            "max_body_bytes": 64 * 1024,
            "max_head_bytes": 16 * 1024,
            **limits,
        },
        server={"trusted_proxies": ("127.0.0.1",)},
    )
    with fake_engine.start() as engine, running(settings) as gateway:
        store = gateway.store
        store.engines({"e0": engine})
        for name in ("support", "other"):
            engine.register(store.version(name))
            store.attest("e0", engine, f"{name}@1")
            store.route(name, {f"{name}@1": 1.0})
        keys = {
            "inference": store.key(Role.INFERENCE),
            "scoped": store.key(Role.INFERENCE, Role.FEEDBACK, models=("support",)),
            "stranger": store.key(Role.INFERENCE, Role.FEEDBACK, tenant="elsewhere"),
            "feedback": store.key(Role.FEEDBACK),
            "admin": store.key(Role.ADMIN),
        }
        gateway.settle()
        yield Fort(gateway, engine, **keys)
