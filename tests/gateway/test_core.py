"""Names, versions and route specs."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.core.refs import BASE, NAME_PATTERN, VersionRef, valid_name
from gateway.core.routes import Arm, Metric, Route, RouteSpec, RouteStatus

names = st.from_regex(NAME_PATTERN, fullmatch=True).filter(lambda name: name != BASE)
numbers = st.integers(min_value=1, max_value=999_999_999)


@given(names, numbers)
def test_a_version_survives_writing(name: str, number: int) -> None:
    """Every version is read back from what it writes."""
    ref = VersionRef(name, number)
    assert VersionRef.parse(str(ref)) == ref


@given(st.text(max_size=80))
def test_what_is_no_version_is_not_read_as_one(text: str) -> None:
    """Any text is either a version that writes that very text, or none."""
    ref = VersionRef.parse(text)
    assert ref is None or str(ref) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a@",
        "@1",
        "a@0",
        "a@01",
        "a@-1",
        "a@1 ",
        "a@1\n",
        "A@1",
        "a@1@2",
        "base@1",
        "a@1000000000",
        "a@\uff11",
    ],
)
def test_versions_that_look_alike(text: str) -> None:
    """Only `name@N` with N from 1 and without leading zeros is a version."""
    assert VersionRef.parse(text) is None


@pytest.mark.parametrize(
    ("name", "good"),
    [
        *((name, True) for name in ("a", "0", "a.b-c_d", "a" * 64)),
        *((name, False) for name in ("", ".a", "-a", "a" * 65, "Base", "base", "a/b", "a\n")),
    ],
)
def test_names(name: str, good: bool) -> None:
    """Names are short, lower case and start with a letter or digit; `base` is taken."""
    assert valid_name(name) is good


@given(st.lists(numbers, min_size=1, max_size=32, unique=True), st.data())
def test_shares_that_make_a_whole(versions: list[int], data: st.DataObject) -> None:
    """Any shares that add up to 1 are accepted, whatever the rounding; the spec survives JSON."""
    weights = data.draw(
        st.lists(st.integers(1, 1000), min_size=len(versions), max_size=len(versions)), label="weights"
    )
    total = sum(weights)
    arms = tuple(
        Arm(adapter=f"a@{n}", share=weight / total) for n, weight in zip(versions, weights, strict=True)
    )
    spec = RouteSpec(arms=arms)
    assert RouteSpec.model_validate_json(spec.model_dump_json()) == spec
    assert spec.versions() == {VersionRef("a", number) for number in versions}


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_shares_that_make_no_whole(shares: list[float]) -> None:
    """Shares that don't add up to 1 are refused with their sum."""
    arms = [{"adapter": f"a@{n}", "share": share} for n, share in enumerate(shares, start=1)]
    if abs(sum(shares) - 1) <= 1e-9:
        RouteSpec.model_validate({"arms": arms})
        return
    with pytest.raises(ValidationError, match=re.escape(f"add up to {sum(shares):g}, not to 1")):
        RouteSpec.model_validate({"arms": arms})


WRONG: list[dict[str, Any]] = [
    {"arms": []},
    {"arms": [{"adapter": "a@1", "share": 0.5}, {"adapter": "a@1", "share": 0.5}]},
    {"arms": [{"adapter": "a@1", "share": 1.5}, {"adapter": "b@1", "share": -0.5}]},
    {"arms": [{"adapter": "a@1", "share": float("nan")}]},
    {"arms": [{"adapter": "a", "share": 1}]},
    {"arms": [{"adapter": "base@1", "share": 1}]},
    {"arms": [{"adapter": "base", "share": 1}], "sticky": "glue"},
    {"arms": [{"adapter": "base", "share": 1}], "unknown": 1},
    {"arms": [{"adapter": "base", "share": 1}], "fallback": "other"},
    {"arms": [{"adapter": "base", "share": 1}], "canary": {"candidate": "a@1", "steps": [2]}},
    {"arms": [{"adapter": "base", "share": 1}], "capture": {"mode": "sampled", "share": 2}},
    *(
        {"arms": [{"adapter": "base", "share": 1}], "metrics": metrics}
        for metrics in (
            {"Not a name": {}},
            {"demonstration": {"type": "string"}},
            {"asked_again": {"better": "higher"}},
            {"abandoned": {"type": "number", "better": "lower"}},
            {"thumbs": {"primary": True}, "solved": {"primary": True}},
            {"thumbs": {"range": [0, 1]}},
            {"thumbs": {"min_effect": 1.1}},
            {"thumbs": {"min_effect": 0}},
            {"thumbs": {"window_h": float("inf")}},
            {"stars": {"type": "number", "primary": True}},
            {"stars": {"type": "number", "range": [5, 1]}},
            {"stars": {"type": "number", "range": [1, float("nan")]}},
            {"stars": {"type": "number", "range": [1, 5], "min_effect": 4.5}},
            {"label": {"type": "string", "primary": True}},
        )
    ),
]


@pytest.mark.parametrize(
    ("metric", "value", "scaled"),
    [
        ({}, True, 1.0),
        ({}, False, 0.0),
        ({}, 1, None),
        ({"type": "number", "range": [1, 5]}, 2, 0.25),
        ({"type": "number", "range": [1, 5]}, 9.0, 1.0),
        ({"type": "number", "range": [1, 5]}, True, None),
        ({"type": "number"}, 2, None),
        ({"type": "string"}, "2", None),
        ({"better": "lower", "min_effect": 0.02, "primary": True}, True, 1.0),
        ({"type": "number", "min_effect": 1e9}, 1.0, None),
    ],
)
def test_values_between_0_and_1(
    metric: dict[str, Any], value: bool | float | str, scaled: float | None
) -> None:
    """Bools and numbers with a range are brought between 0 and 1; others are not compared."""
    assert Metric.model_validate(metric).scaled(value) == scaled


@pytest.mark.parametrize("document", WRONG)
def test_specs_that_are_refused(document: dict[str, Any]) -> None:
    """A spec with a doubled arm, a share outside 0 to 1 or an unknown word is refused."""
    with pytest.raises(ValidationError):
        RouteSpec.model_validate(document)


def test_a_spec_needs_every_version_that_it_names() -> None:
    """Canary, shadow and fallback are versions too; the base model is none."""
    spec = RouteSpec.model_validate(
        {
            "arms": [{"adapter": "a@1", "share": 1}, {"adapter": "base", "share": 0}],
            "canary": {"candidate": "a@2"},
            "shadow": {"adapter": "a@3", "share": 0.1},
            "fallback": "b@1",
        }
    )
    assert {str(ref) for ref in spec.versions()} == {"a@1", "a@2", "a@3", "b@1"}


def test_documents_do_not_change() -> None:
    """A route and its parts are frozen."""
    spec = RouteSpec(arms=(Arm(adapter=BASE, share=1),))
    route = Route(name="a", spec=spec, generation=1, status=RouteStatus())
    for document, field in ((route, "generation"), (spec, "sticky"), (spec.arms[0], "share")):
        with pytest.raises(ValidationError):
            setattr(document, field, 1)
