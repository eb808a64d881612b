"""`turnout adapters verify`."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from gateway.core.refs import VersionRef
from gateway.store.fleet import RegistrationRow
from tests.gateway.admin_harness import INCARNATION, REPLICA, AdminService
from tests.gateway.cli.conftest import Run

FIGURES = {
    "distance_to_reference": 0.041,
    "distance_to_predecessor": 0.84,
    "distance_to_base": 3.9,
    "noise": 0.06,
    "reference": "training",
    "seconds": 0.71,
    "weak": None,
}


@contextmanager
def controller(admin: AdminService, ref: VersionRef, **row: Any) -> Iterator[None]:
    """Answer the next wish for a proof as a controller does."""

    def work() -> None:
        while not done.is_set():
            asked = admin.control.attestations.asked().get(ref)
            if asked is not None:
                figures = {**FIGURES, **row.get("figures", {}), "asked": asked}
                state, reason = row.get("state", "attested"), row.get("reason")
                admin.control.fleet.set_registration(
                    RegistrationRow(
                        REPLICA, ref, INCARNATION, "sha256:00", state, figures, reason, time.time()
                    ),
                    epoch=admin.epoch,
                )
                return
            time.sleep(0.01)

    done = threading.Event()
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(10)


@pytest.fixture
def ref(admin: AdminService) -> VersionRef:
    """A version that is attested on the replica."""
    admin.controller()
    ref = admin.adapter()
    admin.register(ref)
    return ref


@pytest.mark.parametrize(
    ("row", "code", "cells", "after"),
    [
        ({}, 0, ["proved", "strong"], f"r0: incarnation {INCARNATION}\n"),
        (
            {"figures": {"weak": "its probes tell it apart by 2.0 times the noise; 5 are wanted"}},
            0,
            ["proved", "weak"],
            "r0: its probes tell it apart by 2.0 times the noise; 5 are wanted\n",
        ),
        (
            {"state": "failed", "reason": "it answers like the base model"},
            1,
            ["failed", "-"],
            "r0: it answers like the base model\n",
        ),
    ],
    ids=["strong", "weak", "failed"],
)
def test_the_figures_of_a_proof(
    run: Run,
    *,
    admin: AdminService,
    ref: VersionRef,
    row: dict[str, Any],
    code: int,
    cells: list[str],
    after: str,
) -> None:
    """One line a replica with distances, noise and verdict; exit code 1 when the proof fails."""
    with controller(admin, ref, **row):
        done = run("adapters verify support@1")
    assert done.exit_code == code, done.output
    line = next(line for line in done.stdout.splitlines() if line.startswith("r0 "))
    assert line.split()[1:8] == [*cells, "training", "0.041", "0.840", "3.900", "0.060"]
    assert done.stdout.endswith(after)
    assert "r0: " in done.stderr


def test_json(run: Run, admin: AdminService, ref: VersionRef) -> None:
    """The document has verdict, strength, incarnation and figures by replica."""
    with controller(admin, ref):
        document = json.loads(run("adapters verify support@1 --json").stdout)
    (proof,) = document["proofs"]
    assert (document["passed"], proof["verdict"], proof["strength"]) == (True, "proved", "strong")
    assert (proof["incarnation"], proof["figures"]["noise"]) == (INCARNATION, 0.06)


def test_a_replica_that_does_not_answer(run: Run, ref: VersionRef) -> None:
    """The wait is bounded, and ends with exit code 1 and the replica's name."""
    done = run(f"adapters verify {ref} --timeout 0")
    assert done.exit_code == 1
    assert "r0 has not answered" in done.stderr


def test_a_version_that_is_nowhere(run: Run, admin: AdminService) -> None:
    """It says that there is nothing to prove."""
    admin.adapter()
    done = run("adapters verify support@1")
    assert (done.exit_code, "is registered on no replica" in done.stderr) == (1, True)


def test_weak_proofs_are_shown_as_such(run: Run, admin: AdminService, ref: VersionRef) -> None:
    """`adapters show` and `status` say of which version on which replica the proof is weak."""
    with controller(admin, ref, figures={"weak": "too near"}):
        run("adapters verify support@1")
    assert "on r0  attested: weak proof: too near" in run("adapters show support@1").stdout
    assert "support@1 (weak)" in run("status").stdout
    _, page = admin.call("GET", "/admin/replicas")
    assert page["data"][0]["weak"] == ["support@1"]
