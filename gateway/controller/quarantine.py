"""A replica that keeps failing is left alone for a while, ever longer. Pure.

An engine that comes back is a strike: it had restarted, or it was unhealthy. Three strikes, each within ten
minutes of the one before, put it in quarantine: for that time it gets no traffic, which would only be lost
with it. Its adapters are put back, so that it can step in at once when no other replica works. One more
strike afterwards puts it there for twice as long. Ten quiet minutes in service, and all is forgotten.
Whether a replica may be spared is not decided here.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

STRIKES = 3
QUIET_S = 600.0
FIRST_S = 30.0
LONGEST_S = 600.0


@dataclass(frozen=True, slots=True)
class Record:
    """What is remembered of a replica. Times are seconds since the epoch; `until` is 0 out of quarantine."""

    strikes: int = 0
    struck_at: float = 0.0
    times: int = 0
    until: float = 0.0

    @classmethod
    def read(cls, stored: Mapping[str, Any] | None) -> Self:
        """Return a stored record; a replica of which nothing is stored has none."""
        return cls(**stored) if stored else cls()

    def stored(self) -> dict[str, Any] | None:
        """Return the record as it is stored."""
        return asdict(self) if self.strikes else None

    def struck(self, now: float) -> "Record":
        """Return the record after one more strike."""
        known = self if now - self.struck_at < QUIET_S else Record()
        strikes = known.strikes + 1
        if strikes < STRIKES:
            return Record(strikes, now, known.times, 0.0)
        pause_s = min(FIRST_S * 2.0 ** min(known.times, 30), LONGEST_S)
        return Record(strikes, now, known.times + 1, now + pause_s)

    def left_s(self, now: float) -> float:
        """Return the seconds of quarantine that are left; a clock that was set back adds none."""
        return min(max(0.0, self.until - now), LONGEST_S)

    def released(self, now: float) -> "Record":
        """Return the record of a replica that is in service again; the next strike counts from now."""
        return Record(self.strikes, now, self.times, 0.0)
