"""Where an adapter came from: enough to make it again, and to know what went into it."""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from pathlib import Path

from training.data.rows import Example

PACKAGES = ("torch", "transformers", "peft", "bitsandbytes", "accelerate", "tokenizers", "safetensors")


def fingerprint(examples: Sequence[Example]) -> str:
    """Return `sha256:…` over the rows as canonical JSON, whatever their order in the file."""
    lines = sorted(
        json.dumps({"messages": example.messages, "completion": example.completion}, sort_keys=True)
        for example in examples
    )
    whole = hashlib.sha256()
    for line in lines:
        whole.update(line.encode() + b"\n")
    return f"sha256:{whole.hexdigest()}"


def code_version() -> str:
    """Return the version of Turnout and a digest of this package's sources."""
    whole = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        whole.update(path.name.encode() + b"\0" + path.read_bytes())
    return f"turnout {_version('turnout') or 'from source'}, training sha256:{whole.hexdigest()[:16]}"


def packages() -> dict[str, str]:
    """Return the versions of the packages that decide the result."""
    found = {name: _version(name) for name in PACKAGES}
    return {name: version for name, version in found.items() if version}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
