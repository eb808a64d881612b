"""What `make bench-training` publishes, without training."""

import sys
from typing import Any

import pytest

from loadtests.training import run as training
from loadtests.training.fits import Measured

SPEED = {"turnout": 300, "trl_default": 100, "trl_plain": 80, "turnout_lean": 200}


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Systems of known speed, and what was published of them."""
    found: dict[str, Any] = {}

    def measure(system: str, lengths: str, *, seed: int, rows: int, shape: str | None) -> Measured:
        return Measured(
            system,
            lengths,
            seed,
            tokens=SPEED[system] * rows,
            seconds=float(rows),
            peak_rss_mb=1000.0,
            peak_gpu_mb=500.0 if shape else 0.0,
            validation_loss=0.5,
            curve=[(0.0, 2.0), (float(rows), 0.5)],
        )

    def publish(bench: str, figures: dict[str, Any], sheet: Any, **more: Any) -> None:
        found.update(bench=bench, figures=figures, sheet=sheet, **more)

    monkeypatch.setattr("loadtests.training.run.measure", measure)
    monkeypatch.setattr("loadtests.training.run.publish", publish)
    monkeypatch.setattr("loadtests.training.run.busy_share", lambda: 0.0)
    monkeypatch.setattr("loadtests.training.run.end_in_order", lambda: None)
    return found


def run(monkeypatch: pytest.MonkeyPatch, *options: str, device: str | None = None) -> int:
    """Run the benchmark as if this machine had this GPU."""
    monkeypatch.setattr(sys, "argv", ["bench-training", *options])
    monkeypatch.setattr("loadtests.training.run.gpu", lambda: device)
    return training.main()


def test_three_systems_on_two_cores(published: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures have the names that readers of results rely on, and no GPU's memory."""
    assert run(monkeypatch, "--seeds", "7", "--rows", "24") == 0
    assert published["bench"] == "bench-training"
    assert not published["partial"]
    assert published["figures"]["tokens_per_s"] == {"turnout": 300, "trl_default": 100, "trl_plain": 80}
    for part in (published["figures"], published["figures"]["equal_lengths"]):
        assert {"tokens_per_s", "peak_rss_mb", "validation_loss", "s_to_target_loss"} <= set(part)
        assert "peak_gpu_mb" not in part


def test_a_shape_on_a_gpu(published: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is another benchmark with a history of its own, names the device, and tells of the GPU's memory."""
    assert run(monkeypatch, "--shape", "8b", "--seeds", "7", device="one GPU") == 0
    assert published["bench"] == "bench-training-8b"
    assert published["figures"]["peak_gpu_mb"]["turnout_lean"] == 500
    assert published["figures"]["more"]["device"] == "one GPU"
    assert "one GPU" in published["sheet"].title
    assert [row[-1] for row in published["sheet"].rows] == ["500"] * 8


def test_a_shape_that_needs_a_gpu_is_refused_without_one(
    published: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message says what can be tried instead; that is never kept as history."""
    assert run(monkeypatch, "--shape", "8b") == 2
    assert "--shape tiny" in capsys.readouterr().out
    assert not published
    assert run(monkeypatch, "--shape", "tiny", "--seeds", "7") == 0
    assert published["partial"]
