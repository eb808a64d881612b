"""The drift monitor's process beside the controller."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.controller.looping.watcher import FIRST_PAUSE_S, GOOD_RUN_S, LONGEST_PAUSE_S, Watch, Watcher
from tests.gateway.looping.world import kill, wait_gone

HANGS = [sys.executable, "-c", "import time; time.sleep(600)"]


class Clock:
    """A clock that the test moves."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def _ended(watcher: Watcher) -> None:
    assert watcher._process is not None
    watcher._process.wait(20)


@pytest.mark.slow
def test_it_is_started_again_after_growing_pauses(tmp_path: Path) -> None:
    """What ends early is started again later and later; after a good run soon."""
    clock = Clock()
    watcher = Watcher(
        Watch([sys.executable, "-c", "print('no')"], tmp_path / "logs" / "watch.log"), clock=clock
    )
    pause_s = FIRST_PAUSE_S
    for _ in range(3):
        watcher.start()
        _ended(watcher)
        watcher.start()
        assert watcher.pid is None
        clock.now += pause_s - 0.1
        watcher.start()
        assert watcher.pid is None
        clock.now += 0.2
        pause_s = min(LONGEST_PAUSE_S, pause_s * 2)
    watcher.start()
    clock.now += GOOD_RUN_S
    _ended(watcher)
    watcher.start()
    clock.now += FIRST_PAUSE_S
    watcher.start()
    assert watcher.pid is not None
    _ended(watcher)
    assert (tmp_path / "logs" / "watch.log").read_text().count("no") == 5


@pytest.mark.slow
def test_it_is_stopped_with_the_lease(tmp_path: Path) -> None:
    """A controller that is not effective any more ends it: two would look at the same rows."""
    watcher = Watcher(Watch(HANGS, tmp_path / "watch.log"))
    watcher.start()
    pid = watcher.pid
    watcher.start()
    assert pid is not None
    assert watcher.pid == pid
    watcher.stop()
    wait_gone(pid)
    watcher.stop()


@pytest.mark.slow
def test_it_ends_with_a_controller_that_is_killed(tmp_path: Path) -> None:
    """Also when nothing of the controller runs any more."""
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from gateway.controller.looping.watcher import Watch, Watcher\n"
        "watcher = Watcher(Watch([sys.executable, '-c', 'import time; time.sleep(600)'], Path('log')))\n"
        "watcher.start()\nprint(watcher.pid, flush=True)\ntime.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=tmp_path, stdout=subprocess.PIPE
    ) as controller:
        assert controller.stdout is not None
        pid = int(controller.stdout.readline())
        kill(controller.pid)
        wait_gone(pid)
        controller.wait(20)


def test_what_is_missing_is_said_and_nothing_is_started(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the extra there is a line in the log, and another try later."""
    watcher = Watcher(Watch(HANGS, tmp_path / "watch.log", needs=("no_such_library",)))
    watcher.start()
    watcher.start()
    assert watcher.pid is None
    assert caplog.text.count("pip install 'turnout[monitoring]'") == 1
