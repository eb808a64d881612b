"""The same command in several processes, and on a Ray cluster."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.training.runs.conftest import Train, quiet_environment
from tests.training.runs.test_crashes import options, the_run, versions, whole

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def trained(folder: Path, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    """Check that one whole version was published and return what was printed."""
    assert done.returncode == 0, done.stderr
    printed: dict[str, Any] = json.loads(done.stdout)
    assert printed["version"] == "fruit@1"
    assert [row.digest for row in versions(folder)] == [printed["manifest"]["digest"]]
    whole(folder)
    assert the_run(folder).read().state == "finished"
    return printed


def losses(folder: Path) -> list[float]:
    """Return the training losses of the run, by step."""
    return [point["loss"] for point in the_run(folder).points() if "loss" in point]


def update(folder: Path) -> Any:
    """Return all that training changed (lora_B begins at zero) as one vector."""
    import torch
    from safetensors.torch import load_file

    (blob,) = (folder / "state" / "adapters" / "blobs").glob("*/adapter_model.safetensors")
    weights = load_file(blob)
    return torch.cat([weights[name].float().flatten() for name in sorted(weights) if "lora_B" in name])


def test_two_processes_train_what_one_trains(
    rows: Path, tiny_base: Path, tmp_path: Path, environment: dict[str, str], train: Train
) -> None:
    """The same rows in a step, so the same losses and weights; only the first process writes and publishes.

    Processes that did not share their gradients would each learn from half of the rows, and part.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    trained(one, train("none", options(rows, tiny_base, one, "--json"), environment))
    several = options(rows, tiny_base, two, "--json", "--processes", "2")
    trained(two, train("none", several, environment))
    # The last step of a pass has too few rows for all, and accelerate fills it up with others.
    assert losses(two) == pytest.approx(losses(one), rel=4e-3)
    mine, other = update(one), update(two)
    assert float((mine - other).norm()) < 0.05 * float(mine.norm())


def test_a_fault_in_several_processes_is_told_as_in_one(
    rows: Path, tiny_base: Path, tmp_path: Path, environment: dict[str, str], train: Train
) -> None:
    """A batch that can't be shared ends with 2 and the reason, and leaves no version."""
    done = train(
        "none", options(rows, tiny_base, tmp_path, "--processes", "2", "--batch-size", "5"), environment
    )
    assert done.returncode == 2, done.stderr
    assert "can't be shared by 2 processes" in done.stderr
    assert versions(tmp_path) == []


def test_every_process_of_a_launcher_runs_the_command(
    rows: Path, tiny_base: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    """As under `accelerate launch` on several machines: one prepares, judges and publishes, all train."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    arguments = options(rows, tiny_base, tmp_path, "--json")
    done = subprocess.run(
        [*launcher, "-m", "training", *arguments],
        env={**environment, "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    trained(tmp_path, done)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """The addresses of a Ray cluster of one machine: its own, and that of its client's server."""
    with socket.socket() as free, socket.socket() as also_free:
        free.bind(("127.0.0.1", 0))
        also_free.bind(("127.0.0.1", 0))
        port, client_port = (one.getsockname()[1] for one in (free, also_free))
    # Ray's sockets have long names, and a socket's path may have no more than 107 characters.
    folder = f"/tmp/ray-{os.getpid()}"  # noqa: S108 - the test's own, removed below
    ray = [sys.executable, "-m", "ray.scripts.scripts"]
    environment = quiet_environment(tmp_path_factory.mktemp("cluster-cache"))
    start = ["start", "--head", "--block", "--port", str(port), "--num-cpus=2", "--include-dashboard=false"]
    process = subprocess.Popen(
        [
            *ray,
            *start,
            "--node-ip-address=127.0.0.1",
            f"--ray-client-server-port={client_port}",
            f"--temp-dir={folder}",
            "--object-store-memory=100000000",
        ],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ray runtime started" in line:
                break
        else:
            pytest.fail("Ray did not start")
        yield f"127.0.0.1:{port}", f"ray://127.0.0.1:{client_port}"
    finally:
        process.terminate()
        process.wait(60)
        if process.stdout is not None:
            process.stdout.close()
        subprocess.run(["rm", "-rf", folder], check=False)


def test_a_ray_cluster_trains_and_this_process_publishes(
    *,
    cluster: tuple[str, str],
    rows: Path,
    tiny_base: Path,
    tmp_path: Path,
    environment: dict[str, str],
    train: Train,
) -> None:
    """Rows and code travel there, the adapter and its figures come back, to the same digest as here.

    It is reached by Ray's client, from a machine that is not in the cluster.
    """
    here, there = tmp_path / "here", tmp_path / "there"
    ours = trained(here, train("none", options(rows, tiny_base, here, "--json"), environment))
    done = train("none", options(rows, tiny_base, there, "--json", "--on", cluster[1]), environment)
    theirs = trained(there, done)
    assert theirs["manifest"]["digest"] == ours["manifest"]["digest"]
    assert losses(there) == losses(here)
    assert theirs["manifest"]["evaluation"] == ours["manifest"]["evaluation"]


def test_what_goes_wrong_on_a_cluster_is_told_here(
    *,
    cluster: tuple[str, str],
    rows: Path,
    tiny_base: Path,
    tmp_path: Path,
    environment: dict[str, str],
    train: Train,
) -> None:
    """A mistake of the caller ends with 2 and its reason; a cluster that is not there with 1."""
    done = train(
        "none", options(rows, tiny_base, tmp_path, "--on", cluster[0], "--max-tokens", "8"), environment
    )
    assert done.returncode == 2, done.stderr
    assert "every row is longer than --max-tokens 8" in done.stderr
    assert versions(tmp_path) == []
