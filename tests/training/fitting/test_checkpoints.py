"""Checkpoints are whole or not there, also when the disk is full."""

import errno
import resource
from pathlib import Path
from typing import Any

import pytest

from tests.training.fitting.test_fit import rows
from training.config import TrainConfig
from training.fitting.template import Template

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")]


@pytest.fixture
def trainer(tiny_base: Path, tmp_path: Path) -> Any:
    """A trainer that leaves a checkpoint after every step, eight in all."""
    from training.fitting.fit import build_trainer
    from training.fitting.model import add_lora, load_base

    config = TrainConfig(epochs=2, rank=4, batch_size=4, learning_rate=5e-3)
    base = load_base(str(tiny_base))
    template = Template(base.tokenizer, base.stop_ids)
    encoded = [template.encode(example) for example in rows(16)]
    return build_trainer(
        add_lora(base.model, config),
        encoded,
        [],
        config,
        template=template,
        scratch=tmp_path / "run",
        on_step=lambda *_: None,
    )


def test_the_last_two_are_kept_and_hold_no_pickle_of_settings(trainer: Any, tmp_path: Path) -> None:
    """Nothing half-written lies beside them."""
    from training.fitting.checkpoints import whole
    from training.fitting.fit import fit

    fit(trainer)
    kept = whole(tmp_path / "run")
    assert [path.name for path in kept] == ["checkpoint-7", "checkpoint-8"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["checkpoint-7", "checkpoint-8"]
    names = {path.name for path in kept[-1].iterdir()}
    assert {"adapter_model.safetensors", "optimizer.pt", "turnout.json"} <= names
    assert not names & {"training_args.bin", "README.md", "tokenizer.json"}


@pytest.mark.parametrize("first", [True, False])
def test_a_full_disk_is_said_and_the_last_checkpoint_stays(
    trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """The error says what to do; what is there can be resumed from once there is room."""
    from transformers import Trainer

    from training.fitting.checkpoints import whole
    from training.fitting.fit import CheckpointFailed, fit

    plain = Trainer._save_optimizer_and_scheduler
    full_at = 1 if first else 3

    def full(self: Any, folder: str) -> None:
        if self.state.global_step >= full_at:
            (Path(folder) / "optimizer.pt").write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        plain(self, folder)

    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", full)
    said = "start again" if first else r"the checkpoint of step 2 is whole: free space and resume"
    with pytest.raises(
        CheckpointFailed, match=f"step {full_at} can't be written: the disk of .* is full; .*{said}"
    ):
        fit(trainer)
    names = [path.name for path in (tmp_path / "run").iterdir()]
    assert sorted(names) == ([] if first else ["checkpoint-1", "checkpoint-2"])
    monkeypatch.setattr(Trainer, "_save_optimizer_and_scheduler", plain)
    assert fit(trainer, resume=True).steps == 8
    assert len(whole(tmp_path / "run")) == 2


def test_writes_that_fail_anywhere_are_one_clear_error(trainer: Any, tmp_path: Path) -> None:
    """Each library that writes has an error of its own; with files limited to 16 KB they all fail."""
    from training.fitting.fit import CheckpointFailed, fit

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16 * 1024, before[1]))
    try:
        with pytest.raises(CheckpointFailed, match="step 1 can't be written"):
            fit(trainer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "run").iterdir()) == []


def test_half_a_checkpoint_under_a_whole_name_is_never_left(
    trainer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An old one is renamed before it is removed, so that a death in between leaves no half."""
    import shutil

    from training.fitting import checkpoints
    from training.fitting.checkpoints import whole
    from training.fitting.fit import fit

    def dies(path: Path, **_: Any) -> None:
        if "checkpoint-" in str(path) and Path(path).exists():
            raise KeyboardInterrupt

    plain = shutil.rmtree
    monkeypatch.setattr(checkpoints.shutil, "rmtree", dies)
    with pytest.raises(KeyboardInterrupt):
        fit(trainer)
    monkeypatch.setattr(checkpoints.shutil, "rmtree", plain)
    kept = whole(tmp_path / "run")
    assert [path.name for path in kept] == ["checkpoint-2", "checkpoint-3"]
    assert all((path / "trainer_state.json").is_file() for path in kept)
    assert fit(trainer, resume=True).steps == 8
