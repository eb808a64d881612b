"""Names: what an adapter, a version and a route may be called, and how a version is written."""

import re
from dataclasses import dataclass
from typing import Self

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
BASE = "base"
"""The label of the base model wherever a version could stand: in arms, headers and rows."""

NONE = "-"
"""What a header says where there is no route or no arm. It can't be a name."""

_NAME = re.compile(NAME_PATTERN)
_VERSION = re.compile(rf"({NAME_PATTERN})@([1-9][0-9]{{0,8}})")


def valid_name(name: str) -> bool:
    """Whether `name` may name an adapter or a route. `base` is reserved."""
    return _NAME.fullmatch(name) is not None and name != BASE


@dataclass(frozen=True, slots=True, order=True)
class VersionRef:
    """One immutable version of an adapter, written `name@number`. The engine knows it by that very name."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the version that `text` writes, or None when it is not of the form `name@N`."""
        match = _VERSION.fullmatch(text)
        if match is None or match[1] == BASE:
            return None
        return cls(match[1], int(match[2]))
