"""What a key may use: patterns over routes, versions and the base model. Pure.

| pattern | stands for |
|---|---|
| `support` | the route of that name |
| `team-*` | every route whose name begins so; `*` stands for any characters, once in a pattern |
| `support@3` | that version, asked for by its number |
| `support@*`, `team-*@*` | every version of those adapters |
| `base` | the base model, by either of its names |

A route's name does not stand for its versions, nor `*` for the base model: whoever may use a route meets the
version that the route gives out, and no other.
"""

import re
from collections.abc import Iterable
from typing import Self

from gateway.core.refs import BASE, VersionRef

MAX_PATTERNS = 64
PATTERN = r"(?=[a-z0-9*])[a-z0-9._-]{0,63}\*?[a-z0-9._-]{0,63}(@(\*|[1-9][0-9]{0,8}))?"
_PATTERN = re.compile(PATTERN)
_MAX_NAME_CHARS = 64
_ANY = "*"


def valid_pattern(text: str) -> bool:
    """Whether `text` is a pattern."""
    return _PATTERN.fullmatch(text) is not None and len(text.partition("@")[0]) <= _MAX_NAME_CHARS


class Scope:
    """The patterns of one key. What is no pattern allows nothing: a mistake never opens anything."""

    __slots__ = ("_routes", "_some_routes", "_some_versions", "_versions", "base", "patterns")

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(patterns)
        valid = [pattern for pattern in self.patterns if valid_pattern(pattern)]
        routes = [pattern for pattern in valid if "@" not in pattern and pattern != BASE]
        versions = [pattern.partition("@")[::2] for pattern in valid if "@" in pattern]
        self.base = BASE in valid
        self._routes = frozenset(name for name in routes if _ANY not in name)
        self._some_routes = tuple(_ends(name) for name in routes if _ANY in name)
        self._versions = frozenset(
            f"{name}@{number}" for name, number in versions if _ANY not in (name + number)
        )
        self._some_versions = tuple(
            (_ends(name), None if number == _ANY else int(number))
            for name, number in versions
            if _ANY in (name + number)
        )

    @classmethod
    def of(cls, patterns: Iterable[str] | None) -> Self | None:
        """Return the scope of patterns; None, which is no limit, without any."""
        return None if patterns is None else cls(patterns)

    def route(self, name: str) -> bool:
        """Whether the route of this name is allowed."""
        return name in self._routes or any(_fits(name, ends) for ends in self._some_routes)

    def version(self, ref: VersionRef) -> bool:
        """Whether this version may be asked for by its number."""
        return str(ref) in self._versions or any(
            number in (None, ref.version) and _fits(ref.name, ends) for ends, number in self._some_versions
        )

    def answer(self, route: str | None, adapter: str) -> bool:
        """Whether an answer is one that could have been asked for: by its route, else by its version."""
        if route is not None:
            return self.route(route)
        ref = VersionRef.parse(adapter)
        return self.base if ref is None else self.version(ref)


def _ends(pattern: str) -> tuple[str, str | None]:
    """Return what a name begins and ends with; no end for a pattern without `*`, which is the whole name."""
    before, star, after = pattern.partition(_ANY)
    return before, after if star else None


def _fits(name: str, ends: tuple[str, str | None]) -> bool:
    before, after = ends
    if after is None:
        return name == before
    return len(name) >= len(before) + len(after) and name.startswith(before) and name.endswith(after)
