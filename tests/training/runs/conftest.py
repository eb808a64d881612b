"""Rows to train on in seconds, and an environment in which a repetition is the same to the bit."""

import os
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
