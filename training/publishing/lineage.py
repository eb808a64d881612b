"""Where an adapter came from: enough to make it again, and to know what went into it."""

import hashlib
import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.data.rows import Example, Preference, Rated, Row, Text

LINEAGE = "turnout-training.json"
"""The file with the lineage beside a base model that was trained whole, which has no manifest."""
PACKAGES = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "tokenizers", "safetensors")


def fingerprint(rows: Sequence[Row]) -> str:
    """Return `sha256:…` over the rows as canonical JSON, whatever their order in the file.

    It covers what is trained on: texts, ratings, and weights other than 1; not lines or further columns.
    """
    lines = sorted(json.dumps(_content(row), sort_keys=True) for row in rows)
    whole = hashlib.sha256()
    for line in lines:
        whole.update(line.encode() + b"\n")
    return f"sha256:{whole.hexdigest()}"


def read_fingerprint(rows: Sequence[Row]) -> str:
    """Return the fingerprint of a source's rows as they were read, by which the source is known again.

    Without weights: which column holds them is said to training alone.
    """
    return fingerprint([replace(row, weight=1.0) if isinstance(row, Example) else row for row in rows])


def _content(row: Row) -> dict[str, Any]:
    match row:
        case Example():
            weight = {} if row.weight == 1 else {"weight": row.weight}
            return {"messages": row.messages, "completion": row.completion, **weight}
        case Preference():
            return {"messages": row.messages, "chosen": row.chosen, "rejected": row.rejected}
        case Rated():
            return {"messages": row.messages, "completion": row.completion, "liked": row.liked}
        case Text():
            return {"text": row.text}


def code_version() -> str:
    """Return the version of Turnout and a digest of the sources of `training`."""
    whole = hashlib.sha256()
    package = Path(__file__).parents[1]
    for path in sorted(package.rglob("*.py")):
        whole.update(path.relative_to(package).as_posix().encode() + b"\0" + path.read_bytes())
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
