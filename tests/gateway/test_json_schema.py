"""Shapes of JSON values: what fits, what does not, what can't be known, and that it never takes long."""

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from gateway.core.json_schema import MAX_DEPTH, TooMuch, fits

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
TREE = {
    "$defs": {
        "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}, "required": ["v"]}
    },
    "$ref": "#/$defs/node",
}

CASES: list[tuple[Any, Any, bool]] = [
    (PERSON, {"name": "Ann", "age": 3}, True),
    (PERSON, {"name": "Ann"}, True),
    (PERSON, {"name": "Ann", "age": 3.0}, True),
    (PERSON, {"name": "Ann", "age": 3.5}, False),
    (PERSON, {"name": "Ann", "age": True}, False),
    (PERSON, {"name": "", "age": 3}, False),
    (PERSON, {"name": "Ann", "age": -1}, False),
    (PERSON, {"age": 3}, False),
    (PERSON, {"name": "Ann", "more": 1}, False),
    (PERSON, [], False),
    (TREE, {"v": 1, "next": {"v": 2}}, True),
    (TREE, {"v": 1, "next": {"next": {}}}, False),
    ({"type": ["string", "null"]}, None, True),
    ({"type": ["string", "null"]}, 1, False),
    ({"enum": ["a", 1, {"b": [True]}]}, {"b": [True]}, True),
    ({"enum": ["a", 1]}, True, False),
    ({"const": 1}, 1.0, True),
    ({"items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [1], True),
    ({"items": {"type": "integer"}, "minItems": 1, "maxItems": 2}, [1, 2, 3], False),
    ({"prefixItems": [{"type": "integer"}], "items": False}, [1, 2], False),
    ({"items": [{"type": "integer"}], "additionalItems": False}, ["a"], False),
    ({"uniqueItems": True}, [1, 2, 1.0], False),
    ({"uniqueItems": True}, [1, True, "1"], True),
    ({"anyOf": [{"type": "string"}, {"type": "integer"}]}, 1.5, False),
    ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, 1, False),
    ({"oneOf": [{"type": "integer"}, {"minimum": 0}]}, -1, True),
    ({"allOf": [{"minimum": 0}, {"exclusiveMaximum": 5}]}, 5, False),
    ({"exclusiveMinimum": 1}, 1, False),
    ({"multipleOf": 3}, 10, False),
    ({"multipleOf": 3}, 9, True),
    ({"not": {"type": "string"}}, "a", False),
    ({"minProperties": 1}, {}, False),
    ({"additionalProperties": {"type": "integer"}}, {"a": "b"}, False),
    (True, {"whatever": 1}, True),
    (False, 1, False),
    # What is not looked at speaks against nothing, under `not` and among alternatives neither.
    ({"type": "string", "pattern": "^a$"}, "b", True),
    ({"type": "string", "pattern": "^a$"}, 1, False),
    ({"not": {"pattern": "^a$"}}, "b", True),
    ({"oneOf": [{"pattern": "a"}, {"type": "string"}]}, "b", True),
    ({"patternProperties": {"^x": {}}, "additionalProperties": False}, {"xa": 1}, True),
    ({"$ref": "http://example.com/schema"}, 1, True),
    ({"$ref": "#/nowhere"}, 1, True),
    ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "string"}}}, 1, False),
    ({"multipleOf": 0.1}, 0.25, True),
    # Schemas that are none ask for nothing.
    ({"type": 5, "required": "name", "properties": [], "enum": 3, "minimum": "x"}, 1, True),
    ("a schema?", 1, True),
]


@pytest.mark.parametrize(("schema", "value", "fitting"), CASES)
def test_what_fits(schema: Any, value: Any, fitting: bool) -> None:
    """A value that breaks what is looked at does not fit; all else does."""
    assert fits(value, schema) is fitting


def _branching(depth: int) -> dict[str, Any]:
    """A schema and a value's worth of alternatives that each look into the same inner value."""
    branch = {"allOf": [{"properties": {"x": {"$ref": "#/$defs/a"}}}, False]}
    return {"$defs": {"a": {"anyOf": [branch] * depth}}, "$ref": "#/$defs/a"}


def _nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"x": value}
    return value


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"$ref": "#"}, 1),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, 1),
        ({"allOf": [{"$ref": "#"}, {"$ref": "#"}]}, 1),
        ({"properties": {"x": {"$ref": "#"}}}, _nested(MAX_DEPTH)),
        (_branching(4), _nested(20)),
        ({"uniqueItems": True}, list(range(1000))),
        ({"items": {"enum": list(range(200))}}, [199] * 200),
    ],
)
def test_what_would_take_too_long(schema: Any, value: Any) -> None:
    """References without an end, alternatives that multiply and comparisons of all with all are given up."""
    with pytest.raises(TooMuch):
        fits(value, schema)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.sampled_from([0.5, 2.0])
    | st.sampled_from(["", "a", "ab"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xyz"), inner, max_size=3),
    max_leaves=6,
)
_KINDS = st.sampled_from(["null", "boolean", "object", "array", "string", "number", "integer"])


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    several = st.lists(inner, min_size=1, max_size=3)
    bound = st.integers(-2, 4)
    size = st.integers(0, 3)
    return st.fixed_dictionaries(
        {},
        optional={
            "type": _KINDS | st.lists(_KINDS, min_size=1, max_size=3, unique=True),
            "enum": st.lists(VALUES, min_size=1, max_size=3),
            "const": VALUES,
            "properties": st.dictionaries(st.sampled_from("xyz"), inner, max_size=2),
            "required": st.lists(st.sampled_from("xyz"), max_size=2, unique=True),
            "additionalProperties": inner,
            "items": inner,
            "prefixItems": several,
            "minItems": size,
            "maxItems": size,
            "uniqueItems": st.booleans(),
            "minLength": size,
            "maxLength": size,
            "minProperties": size,
            "maxProperties": size,
            "minimum": bound,
            "maximum": bound,
            "exclusiveMinimum": bound,
            "exclusiveMaximum": bound,
            "allOf": several,
            "anyOf": several,
            "oneOf": several,
            "not": inner,
        },
    )


SCHEMAS = st.recursive(st.booleans() | _schemas(st.booleans()), _schemas, max_leaves=4)


@given(SCHEMAS, VALUES)
def test_it_agrees_with_the_reference(schema: Any, value: Any) -> None:
    """Of what it looks at it says the same as jsonschema, which the engine's environment brings along."""
    jsonschema = pytest.importorskip("jsonschema", reason="comes with the engine")
    try:
        said = fits(value, schema)
    except TooMuch:
        assume(False)
    assert said is jsonschema.Draft202012Validator(schema).is_valid(value)
