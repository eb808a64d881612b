"""One gateway with two fake engines, shared by a module's tests; knobs are reset before each."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from tests import fake_engine
from tests.fake_engine import FakeEngine, Knobs
from tests.fake_engine_http import Request
from tests.gateway.harness import PATIENCE_S, Gateway, running, settings_for, wait_until
from tests.postgresql import NotInstalled, Server
from tests.postgresql import running as running_server


@dataclass(frozen=True)
class Rig:
    """A gateway in front of engines `e0` and `e1`.

    `support` is a route to `support@1` (both engines); `solo@1` is on `e0` alone; `lost@1` is nowhere.
    """

    gateway: Gateway
    engines: dict[str, FakeEngine]
    http: httpx.Client

    def posted(self, path: str = "/v1/chat/completions") -> int:
        """How many requests the engines got on a path."""
        return sum(len(engine.posts(path)) for engine in self.engines.values())

    def never_answer(self) -> None:
        """Have the engines take requests and say nothing; who has sent one soon waits for too long."""
        for engine in self.engines.values():
            engine.knobs.hang = True
            engine.on_request = self._out_of_time

    def _out_of_time(self, request: Request) -> None:
        if request.method == "POST":
            self.gateway.limit(first_byte_timeout_s=0.2)

    def idle(self) -> None:
        """Wait until nothing is under way any more, anywhere."""
        wait_until(lambda: self.gateway.ready()["in_flight"] == 0)
        wait_until(lambda: all(engine.running == 0 for engine in self.engines.values()))


@pytest.fixture(scope="module")
def module_rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """The rig, made once a module."""
    settings = settings_for(
        tmp_path_factory.mktemp("state"),
        limits={
            "max_body_bytes": 64 * 1024,
            "body_timeout_s": PATIENCE_S,  # whose time is to be over says so by `limit`
            "max_in_flight_per_replica": 2,
            "max_queue": 2,
            "queue_timeout_s": PATIENCE_S,
            "first_byte_timeout_s": PATIENCE_S,
            "idle_timeout_s": PATIENCE_S,
            "connect_timeout_s": PATIENCE_S,
        },
    )
    with (
        fake_engine.start() as first,
        fake_engine.start() as second,
        running(settings) as gateway,
        httpx.Client(base_url=gateway.url, timeout=60) as http,
    ):
        engines = {"e0": first, "e1": second}
        store = gateway.store
        store.engines(engines)
        for label in (store.version("support"), store.version("solo"), store.version("lost")):
            first.register(label)
            second.register(label)
        store.attest("e0", first, "support@1", "solo@1")
        store.attest("e1", second, "support@1")
        store.route("support", {"support@1": 1.0}, capture={"mode": "full"})
        store.route("solo", {"solo@1": 1.0})
        gateway.settle()
        yield Rig(gateway, engines, http)


@pytest.fixture
def rig(module_rig: Rig) -> Rig:
    """The rig, well behaved, with nothing received, under way or still to be stored."""
    for engine in module_rig.engines.values():
        engine.knobs = Knobs()
        engine.on_request = None
    module_rig.gateway.rest()
    module_rig.gateway.limit()
    module_rig.gateway.calm()
    for engine in module_rig.engines.values():
        engine.received.clear()
        engine.aborted = 0
    return module_rig


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    """A PostgreSQL server, started for the first test that asks for it."""
    with contextlib.ExitStack() as stack:
        try:
            yield stack.enter_context(running_server())
        except NotInstalled as missing:
            pytest.skip(str(missing))
