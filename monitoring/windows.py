"""Which recorded requests are the reference and which are current.

Without times, the reference is the oldest rows since the route's present arms became active, and current
the newest rows after it. The two never share a row, and every row of the reference is older.
"""

from collections import deque
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from gateway.core.requests import RequestRow
from gateway.core.routes import Route
from gateway.store.events import Events
from gateway.store.requests import Requests

_ROWS_AT_ONCE = 1000  # short reads: the gateway writes to the same file
_FIRST_LOOK_BACK_S = 3600.0


class ImpossibleWindows(ValueError):
    """The windows asked for overlap, or one of them can't hold a row."""


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """What to read. Times are seconds since the epoch; `*_until` is exclusive; `now` ends everything.

    `reference_since` says where the reference begins and `origin` why there, in words.
    """

    reference_since: float
    origin: str
    now: float
    max_rows: int
    reference_until: float | None = None
    reference_rows: int | None = None
    current_since: float | None = None


@dataclass(frozen=True, slots=True)
class Windows:
    """The two windows, each oldest first, and how they were chosen, in words."""

    reference: list[RequestRow]
    current: list[RequestRow]
    rule: str


def arms_active_since(events: Events, route: Route) -> float | None:
    """Return when the arms that the route serves now took over its traffic; None when no event tells."""
    if not route.status.effective_arms:
        return None
    before: int | None = None
    while page := events.rows(route.name, before_id=before):
        for event in page:
            if event.action == "route.flip":
                return event.at
        before = page[-1].id
    return None


def read_windows(requests: Requests, route: str, plan: WindowPlan) -> Windows:
    """Read both windows: only rows whose prompt was captured, none of the gateway's own requests.

    Raises:
        ImpossibleWindows: the plan's windows would overlap, or one of them can't hold a row.
        StoreUnavailable: the store can't be read.
    """
    reference_end = plan.reference_until if plan.reference_until is not None else plan.current_since
    if reference_end is None:
        return _split(requests, route, plan)
    current_start = plan.current_since if plan.current_since is not None else reference_end
    if current_start < reference_end:
        raise ImpossibleWindows("the current window begins before the reference window ends")
    if reference_end <= plan.reference_since:
        raise ImpossibleWindows("the reference window ends before it begins")
    if current_start >= plan.now:
        raise ImpossibleWindows("the current window begins in the future")
    limit = plan.reference_rows or plan.max_rows
    return Windows(
        reference=_oldest(requests, route, since=plan.reference_since, until=reference_end, count=limit),
        current=_newest(requests, route, since=current_start, until=plan.now, count=plan.max_rows),
        rule=f"reference: at most {limit} rows, the oldest {plan.origin} and before the given time; "
        f"current: at most {plan.max_rows} rows, the newest after it",
    )


def _split(requests: Requests, route: str, plan: WindowPlan) -> Windows:
    """Without a time between the windows: a number of rows, or half of them while there are few."""
    wanted = plan.reference_rows or plan.max_rows
    head = _oldest(requests, route, since=plan.reference_since, until=plan.now, count=wanted + plan.max_rows)
    halved = plan.reference_rows is None and len(head) < 2 * wanted
    size = len(head) // 2 if halved else wanted
    reference, rest = head[:size], head[size:]
    current = rest
    if len(head) == wanted + plan.max_rows:  # there may be more
        taken = {row.id for row in reference}
        current = _newest(
            requests, route, since=rest[0].at, until=plan.now, count=plan.max_rows, leave_out=taken
        )
    half = "the older half of the rows" if halved else f"the oldest {size} rows"
    return Windows(
        reference=reference,
        current=current,
        rule=f"reference: {half} {plan.origin}; current: at most {plan.max_rows} rows, the newest after it",
    )


def _oldest(requests: Requests, route: str, *, since: float, until: float, count: int) -> list[RequestRow]:
    rows: list[RequestRow] = []
    for page in _pages(requests, route, since=since, until=until):
        rows += page
        if len(rows) >= count:
            break
    return rows[:count]


def _newest(
    requests: Requests,
    route: str,
    *,
    since: float,
    until: float,
    count: int,
    leave_out: AbstractSet[str] = frozenset(),
) -> list[RequestRow]:
    """Look back further and further, so that a long history is not read for its end."""
    span = _FIRST_LOOK_BACK_S
    while True:
        start = max(since, until - span)
        rows: deque[RequestRow] = deque(maxlen=count)
        for page in _pages(requests, route, since=start, until=until):
            rows.extend(row for row in page if row.id not in leave_out)
        if len(rows) == count or start == since:
            return list(rows)
        span *= 8


def _pages(requests: Requests, route: str, *, since: float, until: float) -> Iterator[list[RequestRow]]:
    """Yield a period's rows, oldest first, each once, in pages.

    A page begins at the time of the last row before it, since rows may share a time; where a whole page
    does, the next one is larger.
    """
    limit = _ROWS_AT_ONCE
    seen: set[str] = set()
    while True:
        rows = requests.window(route, since=since, until=until, limit=limit, with_prompt=True)
        yield [row for row in rows if row.id not in seen]
        if len(rows) < limit:
            return
        last = rows[-1].at
        if rows[0].at == last:
            limit *= 2
        seen = {row.id for row in rows if row.at == last}
        since = last
