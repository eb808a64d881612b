"""Several processes: how they are started, and what is known of those that a launcher started."""

import os
import sys
from pathlib import Path

import pytest

from training.runs.companions import Companions, dismissing
from training.runs.folder import Run
from training.runs.spread import TrainerFailed, fault_of, launch_command, launch_environment, leave_fault


def test_cpus_are_joined_by_torchrun_and_gpus_by_accelerate() -> None:
    """The same program trains in both; no more processes than GPUs are started."""
    cpu = launch_command(2, Path("/r"), gpus=0)
    assert cpu[:2] == [sys.executable, "-P"]
    assert "torch.distributed.run" in cpu
    assert "--nproc-per-node=2" in cpu
    gpu = launch_command(2, Path("/r"), gpus=4)
    assert "accelerate.commands.launch" in gpu
    assert "--num_processes=2" in gpu
    assert cpu[-3:] == gpu[-3:] == ["-m", "training.runs.worker", "/r"]
    with pytest.raises(ValueError, match="more than the 4 GPUs"):
        launch_command(8, Path("/r"), gpus=4)


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes with all the cores each would crawl."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = launch_environment(2, gpus=0, cores=8)
    assert (found["OMP_NUM_THREADS"], found["ACCELERATE_USE_CPU"]) == ("4", "true")
    assert launch_environment(8, gpus=0, cores=2)["OMP_NUM_THREADS"] == "1"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert launch_environment(2, gpus=0, cores=8)["OMP_NUM_THREADS"] == "3"
    assert (
        "ACCELERATE_USE_CPU" not in launch_environment(2, gpus=2, cores=8)
        or "ACCELERATE_USE_CPU" in os.environ
    )


@pytest.mark.parametrize(
    ("error", "kind"), [(ValueError("lower the rate"), ValueError), (OSError("disk full"), TrainerFailed)]
)
def test_the_reason_of_a_process_that_failed_is_told_as_its_own(
    tmp_path: Path, error: Exception, kind: type[Exception]
) -> None:
    """Whoever started them sees what went wrong, with the exit code that belongs to it."""
    run = Run.create(tmp_path, "fruit")
    assert isinstance(fault_of(run, -9), TrainerFailed)
    assert "code -9" in str(fault_of(run, -9))
    leave_fault(run, error)
    leave_fault(run, OSError("a follower of the first fault"))
    found = fault_of(run, 1)
    assert isinstance(found, kind)
    assert str(found) == str(error)
    run.release()


def test_others_are_let_go_when_the_first_fails_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher's processes do not wait for rows that never come; those who train are not told twice."""
    told: list[Path | None] = []
    monkeypatch.setattr("training.runs.companions._broadcast", told.append)

    def fail(companions: Companions | None, path: Path | None) -> None:
        with dismissing(companions):
            if companions is not None and path is not None:
                companions.announce(path)
            raise ValueError("no")

    for path in (None, Path("/r")):
        with pytest.raises(ValueError, match="no"):
            fail(Companions(), path)
    with pytest.raises(ValueError, match="no"):
        fail(None, None)
    assert told == [None, Path("/r")]
