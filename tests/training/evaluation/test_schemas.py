"""JSON answers."""

import json
from pathlib import Path
from typing import Any

import pytest

from training.evaluation.schemas import all_json, is_json, schema_in

SCHEMA = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}


def write(folder: Path, schema: Any) -> Path:
    """Write a schema and return its path."""
    path = folder / "schema.json"
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ('{"a": 1}', True),
        ("null", True),
        ("Sure: {}", False),
        ("NaN", False),
        ("", False),
        ("[" * 100_000, False),
    ],
)
def test_json_is_the_whole_answer(text: str, valid: bool) -> None:
    """What a program could not read is none."""
    assert is_json(text) == valid


def test_a_json_task_has_objects_or_lists_throughout() -> None:
    """Numbers are JSON too, and a task of numbers is none of JSON."""
    assert all_json(['{"a": 1}', "[]"])
    assert not all_json(["1", "2"])
    assert not all_json(["{}", "text"])
    assert not all_json([])


@pytest.mark.parametrize(
    ("answer", "fits"),
    [('{"name": "x"}', True), ('{"name": 1}', False), ("{}", False), ("no", False), ("null", False)],
)
def test_answers_fit_a_schema_or_not(tmp_path: Path, answer: str, fits: bool) -> None:
    """An answer that is no JSON fits none."""
    assert schema_in(write(tmp_path, SCHEMA))(answer) == fits


@pytest.mark.parametrize("schema", ["{", {"type": "nonsense"}, "[]"])
def test_a_file_that_is_no_schema_is_refused(tmp_path: Path, schema: Any) -> None:
    """Before the model is loaded."""
    with pytest.raises(ValueError, match="--schema"):
        schema_in(write(tmp_path, schema))


def test_nothing_is_fetched_for_a_schema(tmp_path: Path) -> None:
    """A reference to another machine is an error, not a request."""
    fits = schema_in(write(tmp_path, {"$ref": "http://127.0.0.1:9/schema.json"}))
    with pytest.raises(ValueError, match="nothing is fetched"):
        fits("{}")
