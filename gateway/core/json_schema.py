"""Whether a JSON value has the shape that a JSON Schema (draft 2020-12) asks for, in bounded time. Pure.

Schemas come from clients, and validators for trusted ones can be made to run for hours: by a pattern that
backtracks, by alternatives that call each other, by references without an end. This one takes so many steps
and no more, compiles no pattern, and fetches nothing.

What it does not look at can't speak against a value: `pattern`, `format`, `contains`, `propertyNames`,
`unevaluated…`, `dependent…`, `if`, and references that leave the document. Inside it reckons with three
values, so that what is unknown stays unknown under `not` and among the branches of `oneOf`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeGuard
from urllib.parse import unquote

MAX_STEPS = 10_000
"""How many pairs of values and schemas are looked at in one check, and pairs of values that are compared."""

MAX_DEPTH = 100
"""How deep values, schemas and references may be nested together."""

_UNCHECKED = frozenset(
    {
        "pattern", "format", "contains", "minContains", "maxContains", "patternProperties", "propertyNames",
        "unevaluatedItems", "unevaluatedProperties", "dependentSchemas", "dependentRequired", "dependencies",
        "additionalItems", "if", "$dynamicRef", "$recursiveRef", "contentEncoding", "contentMediaType",
    }
)  # fmt: skip

Verdict = bool | None
"""True: it fits. False: it does not. None: nothing that was looked at speaks against it."""


class TooMuch(Exception):
    """The check would take more steps, or go deeper, than is allowed."""


def fits(value: Any, schema: Any) -> bool:
    """Whether nothing in the schema that is looked at speaks against the value.

    Raises:
        TooMuch: that can't be said in bounded time.
    """
    return _Check(schema).check(value, schema, 0) is not False


class _Check:
    """One check of one document."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._left = MAX_STEPS

    def check(self, value: Any, schema: Any, depth: int) -> Verdict:
        """Return whether `value` fits `schema`."""
        self._step(depth)
        if isinstance(schema, bool):
            return schema
        if not isinstance(schema, dict):
            return None
        unknown = not _UNCHECKED.isdisjoint(schema)
        for found in self._keywords(value, schema, depth + 1):
            if found is False:
                return False
            unknown = unknown or found is None
        return None if unknown else True

    def _step(self, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > MAX_DEPTH:
            raise TooMuch

    def _keywords(self, value: Any, schema: Mapping[str, Any], depth: int) -> Iterable[Verdict]:
        """Yield what each keyword says; those that cost least come first."""
        if "type" in schema:
            yield _of_type(value, schema["type"])
        if "const" in schema:
            yield self._equal(value, schema["const"], depth)
        if "enum" in schema:
            yield self._among(value, schema["enum"], depth)
        if isinstance(value, dict):
            yield from self._of_object(value, schema, depth)
        elif isinstance(value, list):
            yield from self._of_array(value, schema, depth)
        elif isinstance(value, str):
            yield from _within(len(value), schema, "minLength", "maxLength")
        elif _is_number(value):
            yield from _of_number(value, schema)
        if "$ref" in schema:
            target = self._resolve(schema["$ref"])
            yield None if target is _NOTHING else self.check(value, target, depth)
        yield from self._combined(value, schema, depth)

    # --- objects and arrays -----------------------------------------------------------------------------

    def _of_object(self, value: dict[str, Any], schema: Mapping[str, Any], depth: int) -> Iterable[Verdict]:
        required = schema.get("required")
        if isinstance(required, list):
            yield all(name in value for name in required if isinstance(name, str))
        yield from _within(len(value), schema, "minProperties", "maxProperties")
        properties = schema.get("properties")
        named = properties if isinstance(properties, dict) else {}
        for name, inner in named.items():
            if name in value:
                yield self.check(value[name], inner, depth)
        # What a pattern would name is not known, so nothing is known to be additional.
        if "additionalProperties" in schema and "patternProperties" not in schema:
            for name, inner in value.items():
                if name not in named:
                    yield self.check(inner, schema["additionalProperties"], depth)

    def _of_array(self, value: list[Any], schema: Mapping[str, Any], depth: int) -> Iterable[Verdict]:
        yield from _within(len(value), schema, "minItems", "maxItems")
        first, rest = schema.get("prefixItems"), schema.get("items", True)
        if isinstance(rest, list):  # as drafts before 2020-12 wrote it
            first, rest = rest, schema.get("additionalItems", True)
        fixed = first if isinstance(first, list) else []
        for inner, item in zip(fixed, value, strict=False):
            yield self.check(item, inner, depth)
        if rest is not True:
            for item in value[len(fixed) :]:
                yield self.check(item, rest, depth)
        if schema.get("uniqueItems") is True:
            yield not any(
                self._equal(one, other, depth) for place, one in enumerate(value) for other in value[:place]
            )

    # --- schemas made of schemas ------------------------------------------------------------------------

    def _combined(self, value: Any, schema: Mapping[str, Any], depth: int) -> Iterable[Verdict]:
        for name, combine in _COMBINED.items():
            inner = schema.get(name)
            if isinstance(inner, list) and inner:
                yield combine(self.check(value, each, depth) for each in inner)
        if "not" in schema:
            found = self.check(value, schema["not"], depth)
            yield None if found is None else not found

    def _resolve(self, reference: Any) -> Any:
        """Return what a reference within the document points at."""
        if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
            return _NOTHING
        found = self._root
        for part in reference.split("/")[1:]:
            name = unquote(part).replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isdecimal() and int(name[:9]) < len(found):
                found = found[int(name[:9])]
            else:
                return _NOTHING
        return found

    # --- equality ---------------------------------------------------------------------------------------

    def _among(self, value: Any, allowed: Any, depth: int) -> Verdict:
        if not isinstance(allowed, list):
            return None
        return any(self._equal(value, each, depth) for each in allowed)

    def _equal(self, one: Any, other: Any, depth: int) -> bool:
        """Whether two values are the same JSON: 1 is 1.0, and true is not 1."""
        self._step(depth)
        if isinstance(one, dict) and isinstance(other, dict):
            return one.keys() == other.keys() and all(
                self._equal(one[name], other[name], depth + 1) for name in one
            )
        if isinstance(one, list) and isinstance(other, list):
            return len(one) == len(other) and all(
                self._equal(*pair, depth + 1) for pair in zip(one, other, strict=True)
            )
        return isinstance(one, bool) is isinstance(other, bool) and bool(one == other)


_NOTHING = object()


def _any_of(found: Iterable[Verdict]) -> Verdict:
    unknown = False
    for each in found:
        if each is True:
            return True
        unknown = unknown or each is None
    return None if unknown else False


def _all_of(found: Iterable[Verdict]) -> Verdict:
    unknown = False
    for each in found:
        if each is False:
            return False
        unknown = unknown or each is None
    return None if unknown else True


def _one_of(found: Iterable[Verdict]) -> Verdict:
    every = list(found)
    if every.count(True) > 1:
        return False
    return None if None in every else every.count(True) == 1


_COMBINED: Mapping[str, Callable[[Iterable[Verdict]], Verdict]] = {
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "number": _is_number,
    "integer": _is_whole,
}


def _of_type(value: Any, wanted: Any) -> Verdict:
    names = wanted if isinstance(wanted, list) else [wanted]
    checks = [_TYPES.get(name) if isinstance(name, str) else None for name in names]
    return _any_of(None if check is None else check(value) for check in checks)


def _within(size: float, schema: Mapping[str, Any], least: str, most: str) -> Iterable[Verdict]:
    low, high = schema.get(least), schema.get(most)
    if _is_number(low):
        yield size >= low
    if _is_number(high):
        yield size <= high


def _of_number(value: float, schema: Mapping[str, Any]) -> Iterable[Verdict]:
    yield from _within(value, schema, "minimum", "maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if _is_number(above):
        yield value > above
    if _is_number(below):
        yield value < below
    step = schema.get("multipleOf")
    if _is_number(step) and step > 0:
        if isinstance(value, int) and isinstance(step, int):
            yield value % step == 0
        else:
            yield None  # 0.3 is a multiple of 0.1, and no float says so
