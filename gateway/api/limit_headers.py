"""The headers that tell a client how it stands with its limits, in OpenAI's words and in Anthropic's.

OpenAI: https://platform.openai.com/docs/guides/rate-limits (a duration like `1m30s` until all of a limit is
free again). Anthropic: https://docs.anthropic.com/en/api/rate-limits (the same as a time of RFC 3339).
"""

import datetime as dt
import math

from gateway.core.limits import Kind
from gateway.limits.limiter import Standing

NAMES: tuple[Kind, ...] = ("requests", "tokens")


def openai_lines(name: str, standing: Standing) -> bytes:
    """Return `x-ratelimit-limit-requests` and its like."""
    seconds = math.ceil(standing.full_in_s)
    minutes, rest = divmod(seconds, 60)
    reset = f"{minutes}m{rest}s" if minutes else f"{rest}s"
    return (
        f"x-ratelimit-limit-{name}: {standing.limit}\r\n"
        f"x-ratelimit-remaining-{name}: {standing.remaining}\r\n"
        f"x-ratelimit-reset-{name}: {reset}\r\n"
    ).encode()


def anthropic_lines(name: str, standing: Standing) -> bytes:
    """Return `anthropic-ratelimit-requests-limit` and its like."""
    at = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=standing.full_in_s)
    return (
        f"anthropic-ratelimit-{name}-limit: {standing.limit}\r\n"
        f"anthropic-ratelimit-{name}-remaining: {standing.remaining}\r\n"
        f"anthropic-ratelimit-{name}-reset: {at:%Y-%m-%dT%H:%M:%SZ}\r\n"
    ).encode()
