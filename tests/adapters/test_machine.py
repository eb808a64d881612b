"""What the machine's CPU and memory are good for."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("machine", "capability", "fast"),
    [
        ("x86_64", "AVX512", True),
        ("x86_64", "AVX2", False),
        ("AMD64", "DEFAULT", False),
        ("aarch64", "DEFAULT", True),
    ],
)
def test_an_x86_without_avx512_is_slow_at_bfloat16(
    machine: str, capability: str, fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what torch says that it uses; other CPUs are believed."""
    import torch

    from adapters import machine as here

    monkeypatch.setattr(here.platform, "machine", lambda: machine)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert here.multiplies_bfloat16() is fast


@pytest.mark.parametrize(
    ("limit", "used", "wanted"), [("1000\n", "400\n", 600), ("1000", "1400", 0), ("max\n", "400\n", None)]
)
def test_a_containers_limit_counts_as_the_machines_memory(
    tmp_path: Path, limit: str, used: str, wanted: int | None
) -> None:
    """What a container may not take is not free, however much its host has."""
    from adapters.machine import all_memory, free_memory, left_in_container

    assert left_in_container(tmp_path) is None
    assert free_memory(tmp_path) > 1000
    (tmp_path / "memory.max").write_text(limit, encoding="utf-8")
    (tmp_path / "memory.current").write_text(used, encoding="utf-8")
    assert left_in_container(tmp_path) == wanted
    assert wanted is None or free_memory(tmp_path) == wanted
    assert (all_memory(tmp_path) == 1000) is (wanted is not None)


def test_files_that_were_read_and_lie_idle_are_free_memory(tmp_path: Path) -> None:
    """Reading a model's files takes nothing from what a container may still use."""
    from adapters.machine import left_in_container

    (tmp_path / "memory.max").write_text("1000", encoding="utf-8")
    (tmp_path / "memory.current").write_text("900", encoding="utf-8")
    (tmp_path / "memory.stat").write_text("anon 200\ninactive_file 650\nactive_file 50\n", encoding="utf-8")
    assert left_in_container(tmp_path) == 750
