"""A supervised child: its start, its end, and that nothing of it is left."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from gateway.supervise.process import Backoff, Child, tail

_PATIENCE_S = 60.0
# Starts a grandchild, tells its pid, and waits.
_FAMILY = (
    "import subprocess,sys,time;p=subprocess.Popen(['sleep','600']);print(p.pid,flush=True);time.sleep(600)"
)


def _child(tmp_path: Path, code: str, **options: object) -> Child:
    log = tmp_path / "child.log"
    return Child("child", [sys.executable, "-c", code], environment={}, log=log, **options)  # type: ignore[arg-type]


def _first_line(log: Path) -> str:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if log.is_file() and "\n" in log.read_text():
            return log.read_text().splitlines()[0]
        time.sleep(0.02)
    raise AssertionError(f"nothing in {log}")


def _gone(pid: int) -> bool:
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("runs_s", "waits_s"),
    [
        ([0, 0, 0, 0], [1, 2, 4, 8]),
        ([0, 0, 100, 0], [1, 2, 1, 2]),
        ([0] * 8, [1, 2, 4, 8, 16, 32, 60, 60]),
    ],
)
def test_backoff(runs_s: list[float], waits_s: list[float]) -> None:
    """The wait doubles up to a minute, and begins again after a run of a minute."""
    backoff = Backoff()
    assert [backoff.after_run_of(run_s) for run_s in runs_s] == waits_s


def test_exit_code_and_log(tmp_path: Path) -> None:
    """A child that ends by itself leaves its exit code, and its output in the log."""
    child = _child(tmp_path, "print('hello'); raise SystemExit(7)")
    assert child.exit_code is None
    child.start()
    assert child.wait(_PATIENCE_S)
    assert (child.exit_code, child.starts, child.running) == (7, 1, False)
    assert tail(tmp_path / "child.log") == ["hello"]


def test_death_by_signal(tmp_path: Path) -> None:
    """A child that a signal ended reports 128 and the signal's number."""
    child = _child(tmp_path, "import os,signal; os.kill(os.getpid(), signal.SIGKILL)")
    child.start()
    assert child.wait(_PATIENCE_S)
    assert child.exit_code == 128 + signal.SIGKILL


def test_orderly_stop(tmp_path: Path) -> None:
    """The signal that asks for the end reaches the command itself, which may take its time."""
    child = _child(
        tmp_path,
        "import signal,sys\n"
        "def end(*_): print('bye', flush=True); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('up', flush=True)\n"
        "signal.pause()",
    )
    child.start()
    assert _first_line(tmp_path / "child.log") == "up"
    child.ask_to_stop()
    assert child.wait(_PATIENCE_S)
    assert child.exit_code == 0
    assert tail(tmp_path / "child.log") == ["up", "bye"]


def test_kill_sweeps_the_family(tmp_path: Path) -> None:
    """Killing a child also kills what it started."""
    child = _child(tmp_path, _FAMILY)
    child.start()
    grandchild = int(_first_line(tmp_path / "child.log"))
    child.kill()
    assert not child.running
    assert _gone(grandchild)


def test_an_end_sweeps_the_family(tmp_path: Path) -> None:
    """When a child ends by itself, what it left running is ended too."""
    child = _child(tmp_path, "import subprocess; print(subprocess.Popen(['sleep','600']).pid)")
    child.start()
    assert child.wait(_PATIENCE_S)
    assert _gone(int(_first_line(tmp_path / "child.log")))


def test_kill_9_of_the_supervisor_leaves_nothing(tmp_path: Path) -> None:
    """When the supervising process is killed outright, its children and theirs end."""
    log = tmp_path / "child.log"
    code = (
        "import sys, time; from pathlib import Path; from gateway.supervise.process import Child\n"
        f"child = Child('c', [sys.executable, '-c', {_FAMILY!r}], environment={{}}, "
        f"log=Path({str(log)!r}), grace_s=0.5)\n"
        "child.start(); time.sleep(600)"
    )
    supervisor = subprocess.Popen([sys.executable, "-c", code])
    grandchild = int(_first_line(log))
    child = psutil.Process(grandchild).ppid()
    minder = psutil.Process(child).ppid()
    supervisor.kill()
    supervisor.wait()
    assert all(_gone(pid) for pid in (grandchild, child, minder))


def test_kill_9_of_the_minder(tmp_path: Path) -> None:
    """When the minder is killed outright, the child's end is noticed and its group swept."""
    child = _child(tmp_path, _FAMILY)
    child.start()
    grandchild = int(_first_line(tmp_path / "child.log"))
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait(_PATIENCE_S)
    assert _gone(grandchild)


def test_a_listening_socket_is_passed_on(tmp_path: Path) -> None:
    """A child accepts on the supervisor's listening socket, and a started-again one finds it open."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        fd = listener.fileno()
        code = (
            f"import socket; s = socket.socket(fileno={fd}); c, _ = s.accept(); c.sendall(b'hi'); c.close()"
        )
        child = _child(tmp_path, code, pass_fds=[fd])
        for _ in range(2):
            child.start()
            with socket.create_connection(listener.getsockname(), timeout=_PATIENCE_S) as connection:
                assert connection.recv(10) == b"hi"
            assert child.wait(_PATIENCE_S)
        assert child.starts == 2


def test_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are added to this process's own, and None takes one away."""
    monkeypatch.setenv("FIRST", "1")
    monkeypatch.setenv("SECOND", "2")
    log = tmp_path / "log"
    code = "import os; print(*(os.environ.get(n) for n in ('FIRST', 'SECOND', 'THIRD')))"
    environment = {"SECOND": None, "THIRD": "3"}
    child = Child("child", [sys.executable, "-c", code], environment=environment, log=log)
    child.start()
    assert child.wait(_PATIENCE_S)
    assert tail(log) == ["1 None 3"]


def test_starting_twice_is_a_mistake(tmp_path: Path) -> None:
    """A child that runs can't be started again."""
    child = _child(tmp_path, "import time; time.sleep(600)")
    child.start()
    try:
        with pytest.raises(RuntimeError, match="running already"):
            child.start()
    finally:
        child.kill()


def test_tail_of_no_log(tmp_path: Path) -> None:
    """A log that was never written has no last lines."""
    assert tail(tmp_path / "none.log") == []
