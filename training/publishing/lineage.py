"""Where an adapter came from: enough to make it again, and to know what went into it."""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from training.data.rows import Row

PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "tokenizers", "safetensors")


def fingerprint(examples: Sequence[Row]) -> str:
    """Return `sha256:…` over the rows as canonical JSON, whatever their order in the file."""
    lines = sorted(json.dumps(_content(example), sort_keys=True) for example in examples)
    whole = hashlib.sha256()
    for line in lines:
        whole.update(line.encode() + b"\n")
    return f"sha256:{whole.hexdigest()}"


def code_version() -> str:
    """Return the version of Turnout and a digest of this package's sources."""
    whole = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        whole.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"turnout {_version('turnout') or 'from source'}, training sha256:{whole.hexdigest()[:16]}"


def packages() -> dict[str, str]:
    """Return the versions of the packages that decide the result."""
    found = {name: _version(name) for name in PACKAGES}
    return {name: version for name, version in found.items() if version}


def _content(row: Row) -> dict[str, object]:
    """Return what is trained on of a row: not its line, nor columns that only slice."""
    found = {field.name: getattr(row, field.name) for field in fields(row)}
    weight = found.pop("weight", 1.0)
    kept = {name: value for name, value in found.items() if name not in {"line", "columns"}}
    return kept if weight == 1.0 else {**kept, "weight": weight}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
