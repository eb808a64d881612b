"""Whether answers are JSON, and whether they fit a schema."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Fits = Callable[[str], bool]


def is_json(text: str) -> bool:
    """Whether the whole text is one JSON document."""
    return _document(text) is not _MISSING


def all_json(texts: Sequence[str]) -> bool:
    """Whether every text is a JSON object or list, so that the task is to write JSON."""
    return bool(texts) and all(isinstance(_document(text), dict | list) for text in texts)


def schema_in(path: Path) -> Fits:
    """Return the check of a JSON schema in a file.

    Raises:
        ValueError: the file is no JSON schema, or jsonschema is not installed.
        OSError: it can't be read.
    """
    try:
        from jsonschema import SchemaError  # noqa: PLC0415 - only --schema needs it
        from jsonschema.validators import validator_for  # noqa: PLC0415
        from jsonschema_specifications import REGISTRY  # noqa: PLC0415
        from referencing.exceptions import Unresolvable  # noqa: PLC0415
    except ImportError as error:
        raise ValueError("--schema needs jsonschema; install it") from error
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
        kind = validator_for(schema)
        kind.check_schema(schema)
    except (ValueError, SchemaError, RecursionError) as error:
        raise ValueError(f"--schema {path} is no JSON schema: {str(error).splitlines()[0]}") from error
    # With a registry of its own it resolves nothing over the network.
    validator = kind(schema, registry=REGISTRY)

    def fits(text: str) -> bool:
        document = _document(text)
        try:
            return document is not _MISSING and bool(validator.is_valid(document))
        except Unresolvable as error:
            raise ValueError(f"--schema {path}: {error} is not in the file; nothing is fetched") from error

    return fits


class _Missing:
    """Stands for a text that is no JSON, since None is a document too."""


_MISSING = _Missing()


def _document(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _MISSING


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")
