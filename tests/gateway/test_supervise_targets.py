"""The file by which Prometheus finds the engines of this machine."""

import json
from pathlib import Path

from gateway.supervise.targets import NAME, write_targets


def test_engines_are_targets_with_their_replica(tmp_path: Path) -> None:
    """Each engine is an address with the label that dashboards join by; a later start replaces the file."""
    write_targets(tmp_path, {"replica-9": "http://old:1"})
    write_targets(tmp_path, {"replica-1": "http://10.0.0.5:8000", "replica-0": "http://127.0.0.1:20001"})
    assert json.loads((tmp_path / NAME).read_text()) == [
        {"targets": ["127.0.0.1:20001"], "labels": {"replica": "replica-0"}},
        {"targets": ["10.0.0.5:8000"], "labels": {"replica": "replica-1"}},
    ]
    assert [path.name for path in tmp_path.iterdir()] == [NAME]
