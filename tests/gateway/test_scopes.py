"""What a key may use: patterns and what they stand for."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.refs import BASE, VersionRef, valid_name
from gateway.core.scopes import Scope, valid_pattern

NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,12}", fullmatch=True).filter(valid_name)
PATTERNS = st.from_regex(r"[a-z0-9*][a-z0-9._*-]{0,10}(@(\*|[1-9][0-9]?))?", fullmatch=True).filter(
    valid_pattern
)

STANDS_FOR = [
    ("support", {"support"}, set()),
    ("team-*", {"team-a", "team-", "team-de"}, set()),
    ("*-de", {"sales-de", "team-de"}, set()),
    ("t*-de", {"team-de"}, set()),
    ("*", {"support", "team-a", "team-", "sales-de", "team-de"}, set()),
    ("support@3", set(), {"support@3"}),
    ("support@*", set(), {"support@3", "support@31"}),
    ("team-*@3", set(), {"team-a@3"}),
    ("*@*", set(), {"support@3", "support@31", "team-a@3"}),
    ("base", set(), set()),
    ("Support", set(), set()),
]


@pytest.mark.parametrize(("pattern", "routes", "versions"), STANDS_FOR)
def test_what_a_pattern_stands_for(pattern: str, routes: set[str], versions: set[str]) -> None:
    """A route's pattern stands for routes alone, a version's for versions, and `*` for no base model."""
    scope = Scope([pattern])
    names = ("support", "team-a", "team-", "sales-de", "team-de")
    assert {name for name in names if scope.route(name)} == routes
    labels = ("support@3", "support@31", "team-a@3")
    assert {label for label in labels if scope.version(VersionRef(*_parts(label)))} == versions
    assert scope.base == (pattern == BASE)


def _parts(label: str) -> tuple[str, int]:
    name, _, number = label.partition("@")
    return name, int(number)


NO_PATTERNS = [
    "", "@", "@3", "support@", "support@0", "support@03", "support@-1", "support@3@4", "a**b", "*a*", "a b",
    "Support", "../x", "a/b", "a@x", "a@1*", "support\n", "é", "-a", ".a", "a" * 65, "*" + "a" * 64,
    "a?", "[ab]",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_PATTERNS)
def test_what_is_no_pattern_allows_nothing(text: str) -> None:
    """Anything else is refused where it is given, and where it is stored all the same it opens nothing."""
    assert not valid_pattern(text)
    scope = Scope([text])
    opened = [scope.base, scope.route(text), scope.route("support"), scope.version(VersionRef("a", 1))]
    assert not any(opened)


@given(st.lists(PATTERNS, max_size=4), NAMES, st.integers(1, 99))
def test_patterns_are_what_they_read_like(patterns: list[str], name: str, number: int) -> None:
    """Whatever the patterns, a name is allowed exactly when one of them, read as a plain glob, is it."""

    def glob(pattern: str, text: str) -> bool:
        return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), text) is not None

    scope = Scope(patterns)
    routes = [pattern for pattern in patterns if "@" not in pattern and pattern != BASE]
    assert scope.route(name) == any(glob(pattern, name) for pattern in routes)
    split = [pattern.split("@") for pattern in patterns if "@" in pattern]
    assert scope.version(VersionRef(name, number)) == any(
        glob(one, name) and glob(which, str(number)) for one, which in split
    )
    assert scope.base == (BASE in patterns)


@given(st.lists(st.text(max_size=20), max_size=5), NAMES)
def test_nothing_that_is_stored_breaks_a_scope(patterns: list[str], name: str) -> None:
    """Any texts at all make a scope, which then allows no more than those of them that are patterns."""
    assert Scope(patterns).route(name) == Scope([one for one in patterns if valid_pattern(one)]).route(name)


def test_no_patterns_are_no_limit_and_an_empty_list_is_nothing() -> None:
    """None is everything; an empty list is nothing at all."""
    assert Scope.of(None) is None
    nothing = Scope.of([])
    assert nothing is not None
    assert not any([nothing.base, nothing.route("a"), nothing.version(VersionRef("a", 1))])


@pytest.mark.parametrize(
    ("patterns", "route", "adapter", "allowed"),
    [
        (["support"], "support", "support@3", True),
        (["support"], None, "support@3", False),
        (["support@3"], None, "support@3", True),
        (["support@3"], "support", "support@3", False),
        (["base"], None, "base", True),
        (["support"], None, "base", False),
        (["support"], None, "", False),
    ],
)
def test_answers(patterns: list[str], route: str | None, adapter: str, allowed: bool) -> None:
    """An answer counts by the route that gave it, else by the version that was asked for."""
    assert Scope(patterns).answer(route, adapter) is allowed
