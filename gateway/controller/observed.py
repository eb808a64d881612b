"""What a keeper sees of its engine, and how the reasons that it records are cut."""

from dataclasses import dataclass

MAX_REASON_CHARS = 300


@dataclass(frozen=True, slots=True)
class Observation:
    """What an engine said of itself: its incarnation and its adapters, name → path."""

    incarnation: str
    listed: dict[str, str]
    caches_prefixes: bool = True


def short(text: str) -> str:
    """Return a reason's first line, as much of it as is stored."""
    return text.splitlines()[0][:MAX_REASON_CHARS] if text else "no reason given"
