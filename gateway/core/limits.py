"""What a key, a tenant or a route may take, as values and as the documents that they are stored as. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, Literal, get_args

Scope = Literal["key", "tenant", "route"]
Priority = Literal["low", "normal", "high"]
Kind = Literal["requests", "tokens", "concurrent", "day", "month"]

SCOPES: tuple[Scope, ...] = get_args(Scope)
PRIORITIES: tuple[Priority, ...] = get_args(Priority)
EVERY = "*"
"""The name under which stand the limits of whoever has none of his own."""

MOST = 2**53
MAX_WEIGHT = 1000.0
_FACTORS: Mapping[str, float] = {"low": 0.25, "normal": 1.0, "high": 4.0}
_KINDS: Mapping[Kind, str] = {
    "requests": "requests_per_minute",
    "tokens": "tokens_per_minute",
    "concurrent": "concurrent",
    "day": "tokens_per_day",
    "month": "tokens_per_month",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one key, tenant or route; None is no limit.

    `concurrent`: requests under way at once, streams and others. `max_tokens`: of one answer. `weight` and
    `priority` are a tenant's alone: its share of full replicas.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    tokens_per_day: int | None = None
    tokens_per_month: int | None = None
    max_tokens: int | None = None
    max_body_bytes: int | None = None
    weight: float = 1.0
    priority: Priority = "normal"

    @classmethod
    def of(cls, document: Mapping[str, Any] | None) -> "Limits":
        """Return the limits of a stored document. What a newer release has put there counts for nothing."""
        if not document:
            return NO_LIMITS
        given: dict[str, Any] = {}
        for name in _COUNTS:
            value = document.get(name)
            if isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST:
                given[name] = value
        weight, priority = document.get("weight"), document.get("priority")
        if isinstance(weight, int | float) and 0 < weight <= MAX_WEIGHT:
            given["weight"] = float(weight)
        if priority in PRIORITIES:
            given["priority"] = priority
        return cls(**given)

    def document(self) -> dict[str, Any]:
        """Return what is stored: only what differs from no limits at all."""
        return {one.name: value for one in fields(self) if (value := getattr(self, one.name)) != one.default}

    def of_kind(self, kind: Kind) -> int | None:
        """Return the number of one kind of limit that is counted."""
        value: int | None = getattr(self, _KINDS[kind])
        return value

    @property
    def limits(self) -> bool:
        """Whether anything is limited; a weight and a priority limit nothing."""
        return any(getattr(self, name) is not None for name in _COUNTS)

    @property
    def share(self) -> float:
        """The weight in the queue, the priority included."""
        return self.weight * _FACTORS[self.priority]


_COUNTS = tuple(one.name for one in fields(Limits) if one.name not in ("weight", "priority"))
NO_LIMITS = Limits()
KINDS: tuple[Kind, ...] = get_args(Kind)
_NO_NAMES: Mapping[str, Limits] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class LimitBook:
    """The limits that there are, by scope and name."""

    key: Mapping[str, Limits] = field(default_factory=lambda: _NO_NAMES)
    tenant: Mapping[str, Limits] = field(default_factory=lambda: _NO_NAMES)
    route: Mapping[str, Limits] = field(default_factory=lambda: _NO_NAMES)

    @classmethod
    def of(cls, documents: Mapping[tuple[str, str], Mapping[str, Any] | None]) -> "LimitBook":
        """Return the book of stored documents, by scope and name; empty ones are left out."""
        names: dict[str, dict[str, Limits]] = {scope: {} for scope in SCOPES}
        for (scope, name), document in documents.items():
            if scope in names and (limits := Limits.of(document)) != NO_LIMITS:
                names[scope][name] = limits
        return cls(**names)

    def find(self, scope: Scope, name: str) -> Limits | None:
        """Return the limits of somebody: their own, else those of everybody without; None for none."""
        known: Mapping[str, Limits] = getattr(self, scope)
        return (known.get(name) or known.get(EVERY)) if known else None

    @property
    def limits(self) -> bool:
        """Whether anybody is limited in anything."""
        return any(one.limits for known in (self.key, self.tenant, self.route) for one in known.values())

    def shares(self) -> dict[str, float]:
        """Return the tenants' weights in the queue, as far as they are not one."""
        return {name: one.share for name, one in self.tenant.items() if one.share != 1.0}

    def priorities(self) -> dict[str, Priority]:
        """Return the tenants' priorities, as far as they are not normal."""
        return {name: one.priority for name, one in self.tenant.items() if one.priority != "normal"}
