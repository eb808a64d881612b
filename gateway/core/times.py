"""Times as people type them: an ISO 8601 time, or an age such as `7d`, `12h`, `30m`."""

import re
from datetime import UTC, datetime

_AGE = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


def parse_time(text: str, *, now: float) -> float:
    """Return seconds since the epoch. A time without an offset is UTC; an age counts back from `now`.

    Raises:
        ValueError: `text` is neither.
    """
    if age := _AGE.fullmatch(text.strip()):
        return now - float(age[1]) * _SECONDS[age[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a time like 2026-05-01T12:00 nor an age like 7d, 12h or 30m"
        ) from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
