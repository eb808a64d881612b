"""`--processes N`: this process prepares, judges and publishes, and N others train, started by accelerate."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from training.progress import Progress
from training.runs.folder import Run, replace_file

FAULT = "fault.json"
"""What a process that failed leaves for the one that started it."""

END_S = 20.0
"""How long processes may take to end before they are killed."""


class TrainerFailed(OSError):
    """A process that trained ended without saying why; its own output does."""


def launch_command(processes: int, run: Path, *, gpus: int) -> list[str]:
    """Return the command that trains a run in several processes on this machine.

    Raises:
        ValueError: there are GPUs, but not as many.
    """
    target = ["-m", "training.runs.worker", str(run)]
    # -P: a folder `training` in the working directory is not ours.
    python = [sys.executable, "-P", "-m"]
    if gpus == 0:
        # accelerate starts several CPU processes by MPI only; those of torchrun it joins just as well.
        return [*python, "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *target]
    if processes > gpus:
        raise ValueError(f"--processes {processes} is more than the {gpus} GPUs of this machine")
    accelerate = ["accelerate.commands.launch", "--multi_gpu", f"--num_processes={processes}"]
    plain = ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    return [*python, *accelerate, *plain, *target]


def launch_environment(processes: int, *, gpus: int, cores: int) -> dict[str, str]:
    """Return the environment of processes that share this machine."""
    found = {key: value for key, value in os.environ.items() if key != "CUDA_VISIBLE_DEVICES" or gpus}
    found.setdefault("OMP_NUM_THREADS", str(max(1, cores // processes)))
    found.setdefault("PYTHONSAFEPATH", "1")
    if gpus == 0:
        found["ACCELERATE_USE_CPU"] = "true"
    return found


def train_in_processes(run: Run, processes: int, progress: Progress) -> None:
    """Train a run in several processes of this machine and wait for them.

    Raises:
        ValueError: one of them could not train with the settings or rows.
        OSError: one of them failed otherwise.
    """
    import torch  # noqa: PLC0415 - seconds; the reader's errors come first

    gpus = torch.cuda.device_count()
    (run.path / FAULT).unlink(missing_ok=True)
    progress.say(f"training in {processes} processes")
    process = subprocess.Popen(
        launch_command(processes, run.path, gpus=gpus),
        env=launch_environment(processes, gpus=gpus, cores=os.cpu_count() or 1),
        # As long as one of them lives, nobody else works on the run, also when this process was killed.
        pass_fds=(run.lock_descriptor(),),
    )
    try:
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    if code != 0:
        raise fault_of(run, code)


def fault_of(run: Run, code: int) -> Exception:
    """Return the error that a process left, as the one that it was."""
    document = json.loads(run.text(FAULT) or "{}")
    message = document.get("message")
    if message is None:
        return TrainerFailed(
            f"training ended with code {code}; its output is above. Exit code -9 there is what the kernel "
            "gives a process when memory runs out: take fewer --processes, or see --dry-run"
        )
    return ValueError(message) if document.get("user") else TrainerFailed(message)


def leave_fault(run: Run, error: BaseException) -> None:
    """Write down why this process failed, for the one that started it. The first to fail has the say."""
    path = run.path / FAULT
    if not path.exists():
        document = {"user": isinstance(error, ValueError), "message": str(error) or type(error).__name__}
        with contextlib.suppress(OSError):
            replace_file(path, json.dumps(document))


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
