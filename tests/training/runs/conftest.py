"""Rows to train on in seconds, and an environment in which a repetition is the same to the bit."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


def write_rows(path: Path) -> Path:
    """Write a hundred rows with two labels."""
    lines = [
        f"case {number * 7919} {'ab'[number % 2]},{('apple', 'bread')[number % 2]}" for number in range(100)
    ]
    path.write_text("\n".join(["prompt,completion", *lines]), encoding="utf-8")
    return path


def quiet_environment(cache: Path) -> dict[str, str]:
    """Return one thread, no network and no reports."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "TURNOUT_CACHE": str(cache),
    }


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A hundred rows with two labels."""
    return write_rows(tmp_path / "rows.csv")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One thread, no network and a cache of the test's own."""
    return quiet_environment(tmp_path / "cache")


Train = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def train(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Train]:
    """Run `turnout train` until the death at `where` (`none`: to its end), in a process of its own."""
    output = tmp_path_factory.mktemp("driver") / "said"
    driver = subprocess.Popen(
        [sys.executable, "-m", "tests.training.runs.crash_driver"],
        env={**quiet_environment(output.parent), "TOKENIZERS_PARALLELISM": "false"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(
        where: str, arguments: list[str], environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        assert driver.stdin is not None
        assert driver.stdout is not None
        order = {"where": where, "arguments": arguments, "environment": environment, "output": str(output)}
        driver.stdin.write(json.dumps(order) + "\n")
        driver.stdin.flush()
        code = int(driver.stdout.readline())
        said = [Path(f"{output}.{name}").read_text(encoding="utf-8") for name in ("out", "err")]
        return subprocess.CompletedProcess(arguments, code, *said)

    yield run
    driver.communicate()
