"""The supervisor with small real processes in the places of engine, controller and gateway."""

import io
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from rich.console import Console

from gateway.supervise import supervisor
from gateway.supervise.engine import free_port
from gateway.supervise.process import Child, tail
from gateway.supervise.report import Report
from gateway.supervise.supervisor import Engine, Limits, Supervisor

pytestmark = pytest.mark.slow

_PATIENCE_S = 30.0
# Answers 200 to everything and says when it is asked to end; `/die` ends it, `/sicken` makes it answer 503.
_SERVER = """
import http.server, os, signal, socket, sys
name, fd, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
status = [200]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == "/die":
            os._exit(9)
        if self.path == "/sicken":
            status[0] = 503
        self.send_response(status[0])
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_): pass
def end(signum, _):
    os.write(1, f"{name} got {signal.Signals(signum).name}\\n".encode())
    os._exit(0)
signal.signal(signal.SIGTERM, end if "stubborn" not in name else signal.SIG_IGN)
signal.signal(signal.SIGINT, end if "stubborn" not in name else signal.SIG_IGN)
signal.signal(signal.SIGHUP, lambda *_: os.write(1, f"{name} got SIGHUP\\n".encode()))
server = http.server.HTTPServer(("127.0.0.1", port), Handler, bind_and_activate=fd < 0)
if fd >= 0:
    server.socket = socket.socket(fileno=fd)
os.write(1, f"{name} is up\\n".encode())
server.serve_forever()
"""


@dataclass
class House:
    """A supervisor of three fake processes, and what it printed."""

    supervisor: Supervisor
    engine_url: str
    address: str
    log: Path
    printed: io.StringIO
    children: list[Child]

    def run(self, ready: Callable[[], None]) -> int:
        return self.supervisor.run(settled=self.up, ready=ready)

    def up(self) -> bool:
        """Whether every process listens to signals: a controller answers nobody, so nothing waits for it."""
        names = {f"{child.name} is up" for child in self.children}
        return names <= set(self.lines())

    def lines(self) -> list[str]:
        return tail(self.log, 1000)


def _child(name: str, log: Path, *, fd: int = -1, port: int = 0, code: str = _SERVER) -> Child:
    command = [sys.executable, "-c", code, name, str(fd), str(port)]
    return Child(name, command, environment={}, log=log, pass_fds=[] if fd < 0 else [fd], grace_s=0.5)


@pytest.fixture
def listener() -> socket.socket:
    """The gateway's listening socket, which the supervisor closes."""
    made = socket.create_server(("127.0.0.1", 0))
    made.set_inheritable(True)
    return made


def _house(
    tmp_path: Path,
    listener: socket.socket,
    *,
    names: tuple[str, str, str] = ("engine", "controller", "gateway"),
    engine_code: str = _SERVER,
    limits: Limits | None = None,
    reread: Callable[[], bool] | None = None,
) -> House:
    log, port, printed = tmp_path / "house.log", free_port(), io.StringIO()
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    engine = Engine(f"http://127.0.0.1:{port}", _child(names[0], log, port=port, code=engine_code))
    controller, gateway = _child(names[1], log), _child(names[2], log, fd=listener.fileno())
    return House(
        Supervisor(
            engines=[engine],
            controller=controller,
            gateways=[gateway],
            listeners=[listener],
            serving=lambda: _answers(f"{address}/readyz"),
            limits=limits or Limits(start_timeout_s=_PATIENCE_S, drain_s=5.0),
            report=Report(Console(file=printed, width=300)),
            reread=reread,
        ),
        engine.url,
        address,
        log,
        printed,
        [gateway, controller, engine.child],
    )


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _send_self(signum: signal.Signals) -> None:
    os.kill(os.getpid(), signum)


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            raise AssertionError("it did not happen")
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("signum", "drain"),
    [
        (signal.SIGINT, "SIGINT"),
        (signal.SIGTERM, "SIGTERM"),
    ],
)
def test_an_orderly_stop(signum: signal.Signals, drain: str, tmp_path: Path, listener: socket.socket) -> None:
    """A signal stops gateway, controller and engine in that order, and the exit code is 0."""
    house = _house(tmp_path, listener)
    assert house.run(ready=lambda: _send_self(signum)) == 0
    assert [line for line in house.lines() if "got" in line] == [
        f"gateway got {drain}",
        "controller got SIGTERM",
        "engine got SIGTERM",
    ]
    assert not any(child.running for child in house.children)


@pytest.mark.parametrize("good", [True, False])
def test_settings_are_read_again(
    good: bool, tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGHUP reaches gateway and controller when the settings are good, never an engine; all run on."""
    monkeypatch.setattr(supervisor, "_SETTLED_S", 0.0)
    read: list[bool] = []

    def reread() -> bool:
        read.append(good)
        return good

    house = _house(tmp_path, listener, reread=reread)

    def watch() -> None:
        _until(lambda: bool(read))
        if good:
            _until(lambda: len([line for line in house.lines() if "got SIGHUP" in line]) == 2)
        _send_self(signal.SIGTERM)

    def ready() -> None:
        _send_self(signal.SIGHUP)
        threading.Thread(target=watch).start()

    assert house.run(ready=ready) == 0
    got = {line for line in house.lines() if "got SIGHUP" in line}
    assert got == ({"gateway got SIGHUP", "controller got SIGHUP"} if good else set())


def test_a_terminal_that_was_closed(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a person started at a terminal ends with it."""
    there = [True]
    monkeypatch.setattr(supervisor.sys.stderr, "isatty", lambda: there[0])
    house = _house(tmp_path, listener, reread=lambda: pytest.fail("it was no wish for settings"))

    def close() -> None:
        there[0] = False
        _send_self(signal.SIGHUP)

    assert house.run(ready=close) == 0
    assert "gateway got SIGTERM" in house.lines()


def test_a_second_signal_kills(tmp_path: Path, listener: socket.socket) -> None:
    """Whoever asks twice does not wait for a process that does not end."""
    house = _house(tmp_path, listener, names=("stubborn engine", "controller", "stubborn gateway"))

    def twice() -> None:
        _send_self(signal.SIGINT)
        threading.Thread(target=again).start()

    def again() -> None:
        _until(lambda: "stopping" in house.printed.getvalue())
        _send_self(signal.SIGINT)

    assert house.run(ready=twice) == 130
    assert not any(child.running for child in house.children)


def test_one_that_does_not_end_is_killed(tmp_path: Path, listener: socket.socket) -> None:
    """A process that ignores the request to end is killed after its time, and the rest ends in order."""
    limits = Limits(start_timeout_s=_PATIENCE_S, drain_s=-4.9)  # with the slack: a tenth of a second
    house = _house(tmp_path, listener, names=("engine", "controller", "stubborn gateway"), limits=limits)
    assert house.run(ready=lambda: _send_self(signal.SIGTERM)) == 0
    assert "engine got SIGTERM" in house.lines()
    assert not any(child.running for child in house.children)


@pytest.mark.parametrize("victim", ["engine", "gateway"])
def test_what_dies_is_started_again(victim: str, tmp_path: Path, listener: socket.socket) -> None:
    """An engine or a gateway that ends by itself comes back at the same address."""
    house = _house(tmp_path, listener)
    url = house.engine_url if victim == "engine" else house.address
    faults: list[BaseException] = []

    def play() -> None:
        try:
            with httpx.Client(trust_env=False, timeout=_PATIENCE_S) as client:
                with pytest.raises(httpx.HTTPError):
                    client.get(f"{url}/die")
                _until(lambda: house.lines().count(f"{victim} is up") == 2)
                assert client.get(f"{url}/health").status_code == 200
        except BaseException as error:  # noqa: BLE001 - told to the test
            faults.append(error)
        finally:
            _send_self(signal.SIGTERM)

    assert house.run(ready=threading.Thread(target=play).start) == 0
    assert faults == []
    assert f"{victim} ended with code 9; it starts again in 1 s" in house.printed.getvalue()


def test_an_engine_with_a_dead_core_is_replaced(
    tmp_path: Path, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that answers its health check with an error never recovers, so it is ended and restarted."""
    monkeypatch.setattr("gateway.supervise.supervisor._PROBE_EVERY_S", 0.1)
    house = _house(tmp_path, listener)

    def play() -> None:
        httpx.get(f"{house.engine_url}/sicken", trust_env=False)
        try:
            _until(lambda: house.lines().count("engine is up") == 2)
        finally:
            _send_self(signal.SIGTERM)

    assert house.run(ready=threading.Thread(target=play).start) == 0
    assert "engine reports that its core is dead" in house.printed.getvalue()
    assert house.children[2].starts == 2


def test_a_start_that_fails(tmp_path: Path, listener: socket.socket) -> None:
    """An engine that ends before it is ready fails the start: its log's end and the cause are shown."""
    code = "import sys; print('No module named vllm'); sys.exit('ModuleNotFoundError: vllm')"
    house = _house(tmp_path, listener, engine_code=code)
    assert house.run(ready=lambda: pytest.fail("never ready")) == 1
    printed = house.printed.getvalue()
    assert "| ModuleNotFoundError: vllm" in printed
    assert "engine ended with code 1 before it was ready: a package is missing" in printed
    assert not any(child.running for child in house.children)


def test_a_start_that_takes_too_long(tmp_path: Path, listener: socket.socket) -> None:
    """An engine that is never well fails the start, with what to change."""
    limits = Limits(start_timeout_s=0.5, drain_s=5.0)
    house = _house(tmp_path, listener, engine_code="import time; time.sleep(600)", limits=limits)
    assert house.run(ready=lambda: pytest.fail("never ready")) == 1
    assert "not ready after 0 s (engine engine: loading vLLM): raise engine.start_timeout_s" in (
        house.printed.getvalue()
    )
    assert not any(child.running for child in house.children)


def test_a_signal_during_the_start(tmp_path: Path, listener: socket.socket) -> None:
    """Ctrl-C while an engine loads stops what was started."""
    house = _house(tmp_path, listener, engine_code="import time; time.sleep(600)")

    def interrupt() -> None:
        _until(lambda: house.children[2].running)  # from then on the supervisor hears signals, not pytest
        _send_self(signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert house.run(ready=lambda: pytest.fail("never ready")) == 0
    assert not any(child.running for child in house.children)
