"""Training on a Ray cluster: code, rows and versions travel there, the adapter with its figures comes back.

The machines need the `training` extra; Turnout's own code is sent along, so that both ends are the same
release. Nothing is published there: the registry is only ever written by the process that was asked to.
"""

import logging
import os
import shutil
import uuid
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayActorError, RayError, RayTaskError

from training.job import Job
from training.progress import Progress
from training.runs.folder import Run, appearing, replace_file
from training.runs.order import Order
from training.runs.recorder import Recorder
from training.runs.remote import Files, RemoteMaker, files_of
from training.runs.snapshot import Snapshot

PACKAGES = ("adapters", "gateway", "training")
LEFT_BEHIND = ["**/__pycache__", "library"]
POLL_S = 1.0
PASSED_ON = ("HF_HUB_OFFLINE", "HF_HUB_DISABLE_TELEMETRY", "DO_NOT_TRACK")


class ClusterFailed(OSError):
    """The cluster can't be reached, or a machine of it died."""


def train_on_cluster(
    run: Run, order: Order, snapshot: Snapshot, job: Job, *, recorder: Recorder, progress: Progress
) -> None:
    """Train, judge and probe on a cluster, and put the files into the run's folder.

    Raises:
        ValueError: the rows or settings can't be trained with there.
        OSError: the cluster failed. The run can be resumed.
    """
    address = str(order.on)
    with progress.stage(f"Joining the Ray cluster at {address}"):
        _join(address)
    try:
        files = _made(run, order, snapshot, job, recorder=recorder, progress=progress)
    finally:
        ray.shutdown()
    _put(run, files)
    recorder.done()


def _join(address: str) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    try:
        ray.init(
            address=address,
            runtime_env={
                "py_modules": [str(_folder(name)) for name in PACKAGES],
                "excludes": LEFT_BEHIND,
                "env_vars": variables,
            },
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, RuntimeError, RayError, ValueError) as error:
        raise ClusterFailed(f"the Ray cluster at {address} can't be reached: {error}") from error


def _made(
    run: Run, order: Order, snapshot: Snapshot, job: Job, *, recorder: Recorder, progress: Progress
) -> Files:
    gpus = order.on_gpus if order.on_gpus is not None else float(ray.cluster_resources().get("GPU", 0) >= 1)
    # Two calls at a time: one works, the other says how far it is.
    remote = ray.remote(RemoteMaker).options(num_cpus=order.on_cpus, num_gpus=gpus, max_concurrency=2)
    maker: Any = remote.remote()
    token = uuid.uuid4().hex
    replace_file(run.path / "token", token)
    folders = {
        name: files_of(folder)
        for name, folder in (("predecessor", job.predecessor), ("parent", job.config.parent))
        if folder is not None
    }
    try:
        with progress.stage("Training on the cluster") as stage:
            recorder.shown_on(stage)
            work = maker.make.remote(
                asdict(run.read()), snapshot.text(), folders, (str(run.checkpoints), token)
            )
            heard = 0
            while True:
                done, _ = ray.wait([work], timeout=POLL_S)
                for name, arguments in ray.get(maker.events.remote(heard)):
                    getattr(recorder, name)(*arguments)
                    heard += 1
                if done:
                    files: Files = ray.get(work)
                    return files
    except RayTaskError as error:
        raise _cause(error) from error
    except (RayActorError, RayError) as error:
        raise ClusterFailed(f"the training on the cluster ended: {error}") from error
    finally:
        ray.kill(maker)
        (run.path / "token").unlink(missing_ok=True)


def _cause(error: RayTaskError) -> Exception:
    """Return what was raised on the cluster, as what it is for whoever asked."""
    cause = error.cause
    if isinstance(cause, ValueError | OSError):
        return type(cause)(str(cause)) if isinstance(cause, ValueError) else OSError(str(cause))
    return ClusterFailed(f"the training on the cluster failed: {cause}")


def _put(run: Run, files: Files) -> None:
    """Write the files into the run's folder, the adapter last and whole: where it is, the rest is."""
    for name, content in files.items():
        if "/" not in name:
            replace_file(run.path / name, content.decode())
    shutil.rmtree(run.adapter, ignore_errors=True)
    with appearing(run.adapter) as scratch:
        for name, content in files.items():
            folder, _, file = name.rpartition("/")
            if folder == "adapter" and Path(file).name == file:
                (scratch / file).write_bytes(content)


def _folder(package: str) -> Path:
    """Return where a package's sources are."""
    return Path(str(import_module(package).__file__)).parent
