"""Proofs on the real engine, asked for as a user does."""

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import Service

EXAMPLES = ("sentiment@1", "sarcasm@1", "entities@1")


@pytest.mark.parametrize("version", EXAMPLES)
def test_an_example_is_proved_by_its_reference(service: Service, version: str) -> None:
    """Training's reference agrees with the engine, far from the base model, and the proof is strong."""
    found = json.loads(service.turnout("adapters", "verify", version, "--json"))
    assert found["passed"]
    for proof in found["proofs"]:
        assert (proof["verdict"], proof["strength"]) == ("proved", "strong")
        figures = proof["figures"]
        assert figures["reference"] == "training"
        assert figures["digest"] == "verified"
        assert figures["distance_to_reference"] <= 3 * figures["noise"]
        assert figures["distance_to_base"] >= 5 * figures["noise"]
        assert {each["reference"] for each in figures["comparisons"]} >= {"training", "fleet"}


def test_files_that_change_are_found(service: Service) -> None:
    """A version whose files were changed behind the service's back fails its next proof, and others go on."""
    state = service.state_dir
    listed = json.loads(service.turnout("adapters", "show", "entities@1", "--json"))
    weights = (
        state / "adapters" / "blobs" / listed["digest"].removeprefix("sha256:") / "adapter_model.safetensors"
    )
    before = weights.read_bytes()
    try:
        _write(weights, before[:-1] + bytes([before[-1] ^ 1]))
        with pytest.raises(AssertionError, match="do not have its digest any more"):
            service.turnout("adapters", "verify", "entities@1")
        service.turnout("adapters", "verify", "sentiment@1")
    finally:
        _write(weights, before)
    service.turnout("adapters", "verify", "entities@1")


def _write(path: Path, data: bytes) -> None:
    path.chmod(0o644)
    path.write_bytes(data)
    path.chmod(0o444)
