"""What benchmarks say of the machine and of themselves."""

import subprocess
import sys

from loadtests.common.machine import peak_mb

BIG = 400 * 2**20


def test_a_small_program_of_a_large_one_is_small() -> None:
    """The size is a program's own, however large the one was that started it."""
    large = bytearray(BIG)
    assert peak_mb() > len(large) / 2**20
    said = subprocess.run(
        [sys.executable, "-c", "from loadtests.common.machine import peak_mb; print(peak_mb())"],
        capture_output=True,
        check=True,
        text=True,
    )
    assert 5 < float(said.stdout) < 200
