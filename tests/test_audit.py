"""What `make audit` makes of pip-audit's answers."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parent.parent / "scripts" / "audit.py"

SAFE = {"name": "a", "version": "1", "vulns": []}
WEAK = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-2"}, {"id": "PYSEC-1"}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "weak", "unknown"),
    [
        ({}, {}, []),
        ({"cpu": [SAFE]}, {}, []),
        ({"cpu": [SAFE, WEAK], "dev": [WEAK]}, {"b 2": ["PYSEC-1", "PYSEC-2"]}, []),
        ({"cpu": [SKIPPED], "dev": [SAFE, SKIPPED]}, {}, ["c"]),
    ],
)
def test_what_nobody_answers_for_is_not_safe(
    packages: dict[str, list[dict[str, Any]]], weak: dict[str, list[str]], unknown: list[str]
) -> None:
    """Weak packages come with their advisories, once; a skipped one is listed and not taken for safe."""
    spec = importlib.util.spec_from_file_location("scripts_audit", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    audit = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(audit)
    assert audit.sort_out(packages) == (weak, unknown)
