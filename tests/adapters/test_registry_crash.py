"""Adding an adapter leaves a whole version or none, wherever it is cut off."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def drive(mode: str, folder: Path) -> int:
    """Run the driver and return what it counted."""
    command = [sys.executable, "-m", "tests.adapters.crash_driver", mode, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
def test_a_crash_at_every_step(tmp_path: Path) -> None:
    """A process that ends at any step leaves no version without its blob; adding again gives version 1."""
    assert drive("crash", tmp_path) > 30


def test_a_disk_that_is_full_at_every_step(tmp_path: Path) -> None:
    """A write that fails for want of space says so, and leaves neither version, blob nor scratch."""
    assert drive("full", tmp_path) > 15


def test_processes_that_add_at_once(tmp_path: Path) -> None:
    """Four processes that add the same contents make one version and one blob of each."""
    assert drive("together", tmp_path) == 6
