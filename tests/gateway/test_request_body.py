"""The body of a request: what is JSON to us and what is not."""

import json
from typing import Any

import jiter
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.request_body import parse_body, to_json
from gateway.errors import InvalidRequest


class _Twice(Exception):
    """The reference found a name twice."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _Twice
    return dict(pairs)


# Few names, so that they often meet; some are written with an escape.
_NAMES = st.sampled_from(
    ['"a"', '"b"', '"model"', '"\\u0061"', '"a\\"b"', '"a\\u0022b"', '""', '"é"', '"\\u00e9"']
)
_SCALARS = st.one_of(
    st.sampled_from(
        ["null", "true", "0", "-1", "18446744073709551615", "1e5", "0.1", "-0.0", '"a"', '"\\"a\\": 1"']
    ),
    st.text(max_size=5).map(json.dumps).filter(lambda written: "\\ud" not in written),
    st.integers(-(2**63), 2**64 - 1).map(str),
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
)
_SPACES = st.sampled_from(["", " ", "\n", "\t  "])


@st.composite
def _written(draw: st.DrawFn, depth: int = 3) -> str:
    """JSON as somebody may write it: with spaces, escapes, and names that occur twice."""
    space = draw(_SPACES)
    kind = draw(st.sampled_from(["scalar", "list", "object"])) if depth else "scalar"
    if kind == "scalar":
        return space + draw(_SCALARS) + space
    inner = [draw(_written(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    if kind == "list":
        return f"{space}[{','.join(inner)}]{space}"
    return space + "{" + ",".join(f"{draw(_NAMES)}{space}:{value}" for value in inner) + "}"


@given(_written().map(lambda value: f'{{"top": {value}}}'))
def test_what_is_taken_is_what_the_reference_takes(written: str) -> None:
    """A body is refused exactly when some object in it has a name twice; otherwise nothing in it changes."""
    try:
        expected = json.loads(written, object_pairs_hook=_once)
    except _Twice:
        with pytest.raises(InvalidRequest) as refused:
            parse_body(written.encode())
        assert refused.value.code == "duplicate_field"
    else:
        assert json.loads(to_json(parse_body(written.encode()))) == expected


NOT_JSON = [
    b"",
    b"   ",
    b"{",
    b"[]",
    b'"x"',
    b"null",
    b"3",
    b"\xef\xbb\xbf{}",
    b"\xff\xfe{\x00}\x00",
    b"{} x",
    b"{}{}",
    b'{"a":1,}',
    b"{'a':1}",
    b"{a:1}",
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":01}',
    b'{"a":+1}',
    b'{"a":.5}',
    b'{"a":1.}',
    b'{"a":"\x01"}',
    b'{"a":"\\ud800"}',
    b'{"a":"\\udc00"}',
    b'{"a":"\xff"}',
    b'{"a":"\xed\xa0\x80"}',
    b'{"a":1/*x*/}',
    b"\x00{}",
    b'{"a":' * 201 + b"1" + b"}" * 201,
    b'{"a":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    b'{"a":' + b"1" * 5000 + b"}",
]


@pytest.mark.parametrize("raw", NOT_JSON, ids=lambda raw: repr(raw[:20]))
def test_what_is_no_json_object(raw: bytes) -> None:
    """What the standard does not allow, or nests beyond 200 levels, is a 400 that says so."""
    with pytest.raises(InvalidRequest) as refused:
        parse_body(raw)
    assert refused.value.code == "invalid_json"


@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"18446744073709551616", b"-9223372036854775809"])
def test_numbers_that_64_bits_do_not_hold(number: bytes) -> None:
    """Such a number would reach the engine as another one, so it is refused."""
    with pytest.raises(InvalidRequest) as refused:
        to_json(parse_body(b'{"metadata":[' + number + b"]}"))
    assert (refused.value.code, "64 bits" in refused.value.message) == ("invalid_json", True)


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b'{"model":"a","model":"b"}', "model"),
        (b'{"a":[{"b":{"c":1,"c":1}}]}', "c"),
        (b'{"a":1,"\\u0061":2}', "a"),
        (b'{"a\\"b":1,"a\\u0022b":2}', 'a"b'),
        (b'{"":1,"":2}', ""),
        (b'{"' + b"x" * 100 + b'":1,"' + b"x" * 100 + b'":2}', "x" * 64),
    ],
)
def test_a_name_that_occurs_twice(raw: bytes, name: str) -> None:
    """The refusal names it, at whatever level it is, and however it is written."""
    with pytest.raises(InvalidRequest) as refused:
        parse_body(raw)
    assert (refused.value.code, refused.value.param) == ("duplicate_field", name)


def test_floats_pass_as_they_are() -> None:
    """A float is not a whole number to the checks, and is written back with the same value."""
    body = parse_body(b'{"temperature": 0.70, "n": 1.0}')
    assert isinstance(body["n"], jiter.LosslessFloat)
    assert to_json(body) == b'{"temperature":0.7,"n":1.0}'
