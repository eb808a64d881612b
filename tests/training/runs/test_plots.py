"""Pictures of runs and searches."""

from pathlib import Path

import pytest

from training.runs import plots

PNG = b"\x89PNG"


@pytest.mark.slow
def test_losses_trials_and_importance_are_drawn(tmp_path: Path) -> None:
    """Each is a picture, put there in one step; too little to draw draws nothing."""
    points = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.5}, {"step": 2, "validation_loss": 1.7}]
    assert plots.draw_losses(points, tmp_path / "loss.png")
    assert plots.draw_history([(0, 2.0), (2, 1.5), (3, 1.8)], tmp_path / "trials.png")
    assert plots.draw_importance({"rank": 0.2, "learning_rate": 0.8}, tmp_path / "importance.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["importance.png", "loss.png", "trials.png"]
    assert all(path.read_bytes().startswith(PNG) for path in tmp_path.iterdir())
    assert not plots.draw_losses(points[:1], tmp_path / "none.png")
    assert not plots.draw_history([], tmp_path / "none.png")
    assert not plots.draw_importance({}, tmp_path / "none.png")


def test_without_matplotlib_nothing_is_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training does not need it."""
    monkeypatch.setattr(plots, "can_draw", lambda: False)
    points = [{"step": step, "loss": 1.0} for step in range(5)]
    assert not plots.draw_losses(points, tmp_path / "loss.png")
    assert not plots.draw_history([(0, 1.0)], tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []
