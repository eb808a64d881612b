"""The configuration file of `turnout train`: options as TOML, by their names, under any or no heading."""

import difflib
import json
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from training.runs.order import Order, panel, redacted

_EXTRA = {"from": "from_version"}
"""Names that can't be a field's."""


def read_options(path: Path) -> dict[str, Any]:
    """Return the options that a TOML file sets. Dashes and underscores mean the same.

    Raises:
        ValueError: the file is missing or not TOML, or has a key that is no option; the message names it.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"--config {path}: there is no such file") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"--config {path} is not UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"--config {path} is not TOML: {error}") from error
    known = {field.name for field in fields(Order)}
    found: dict[str, Any] = {}
    for key, value in _flat(document):
        name = _EXTRA.get(key, key.replace("-", "_"))
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            meant = f"; did you mean {near[0].replace('_', '-')!r}?" if near else ""
            raise ValueError(f"--config {path}: {key!r} is no option{meant}")
        if name in found:
            raise ValueError(f"--config {path}: {key!r} stands there twice")
        found[name] = value
    return found


def options_text(values: Mapping[str, Any]) -> str:
    """Return options as the text of such a file, in the order of `--help`, without secrets."""
    names = {name: key for key, name in _EXTRA.items()}
    lines: list[str] = []
    under: str | None = None
    for field in fields(Order):
        if values.get(field.name) is None:
            continue
        if (heading := panel(field.name)) != under:
            lines += ["", f"# {heading}"]
            under = heading
        key = names.get(field.name, field.name.replace("_", "-"))
        lines.append(f"{key} = {_written(redacted(values[field.name]))}")
    return "\n".join(lines).strip() + "\n"


def _flat(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value)
        else:
            yield key, value


def _written(value: Any) -> str:
    # JSON's strings, numbers, lists, true and false are TOML's too.
    return json.dumps(value, ensure_ascii=False)
