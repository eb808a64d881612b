"""The documents of `/admin/keys`. Times are seconds since the epoch."""

from typing import Annotated

from pydantic import AfterValidator, Field

from gateway.api.admin_schemas import Shown, Taken, Text
from gateway.api.limit_schemas import KeyLimits, ShownLimits
from gateway.core.requests import Role
from gateway.core.scopes import MAX_PATTERNS, valid_pattern

MAX_GRACE_HOURS = 30 * 24.0
DEFAULT_GRACE_HOURS = 24.0


def _pattern(text: str) -> str:
    if not valid_pattern(text):
        raise ValueError(
            f"{text[:80]!r} is no pattern: write a route's name like 'support' or 'team-*', a version like "
            "'support@3' or 'support@*', or 'base' for the base model"
        )
    return text


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("only printable characters are taken")
    return text


Pattern = Annotated[str, AfterValidator(_pattern)]
Days = Annotated[float, Field(gt=0, le=36_500)]


class KeyCreate(Taken):
    """What a new key may do. `models` are the routes and versions that it may use; null is everything."""

    roles: frozenset[Role] = Field(default=frozenset({Role.INFERENCE}), min_length=1)
    label: Annotated[str, AfterValidator(_printable)] = Field(default="", max_length=128)
    tenant: Annotated[str, AfterValidator(_printable)] = Field(default="default", min_length=1, max_length=64)
    models: tuple[Pattern, ...] | None = Field(
        default=None,
        max_length=MAX_PATTERNS,
        description="patterns like 'support', 'team-*', 'support@3', 'support@*' and 'base'; [] is nothing",
    )
    limits: KeyLimits | None = Field(default=None, description="of this key alone; see /admin/limits")
    expires_in_days: Days | None = None


class KeyRotate(Taken):
    """How a key gets a new text."""

    grace_hours: float = Field(
        default=DEFAULT_GRACE_HOURS,
        ge=0,
        le=MAX_GRACE_HOURS,
        description="how long the old text stays good; 0 ends every earlier text at once",
    )
    expires_in_days: Days | None = Field(default=None, description="the key's new end; by default it stays")
    why: Text | None = None


class Key(Shown):
    """One key, without its text.

    `previous_until`: until when the text of before the last rotation is good. `pepper` is the public id of
    the server's secret that its hash was made with, null for keys that are older than that.
    """

    id: str
    label: str
    tenant: str
    roles: tuple[Role, ...]
    models: tuple[str, ...] | None
    limits: ShownLimits | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    rotated_at: float | None
    previous_until: float | None
    pepper: str | None
    valid: bool


class KeyPage(Shown):
    """Every key, oldest first."""

    data: tuple[Key, ...]


class NewKey(Key):
    """A key with its new text, which is shown this once and stored nowhere."""

    key: str
