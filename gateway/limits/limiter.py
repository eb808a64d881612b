"""What a request passes: the limits of its key, its tenant and its route, all of them or none.

Requests and tokens of a minute, requests under way, and tokens of a day and a month are counted
(`gateway.limits.ledger`). The prompt's tokens are guessed before the engine is asked, and settled with the
answer's when it is over, however it was.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from gateway.core.limits import KINDS, Kind, LimitBook, Limits, Scope
from gateway.core.requests import Principal, RequestRow
from gateway.errors import LimitReached, TooLarge
from gateway.limits.accounts import Account
from gateway.limits.estimates import Estimates
from gateway.limits.ledger import Ledger

CLIENT_GONE = 499
_OF_TOKENS = ("tokens", "day", "month")
_SAID: dict[Kind, str] = {
    "requests": "requests per minute",
    "tokens": "tokens per minute",
    "concurrent": "requests at once",
    "day": "tokens per day",
    "month": "tokens per month",
}


@dataclass(frozen=True, slots=True)
class Standing:
    """How a client stands with its tightest limit of a kind: its size, what is left, and when it is whole."""

    limit: int
    remaining: int
    full_in_s: float


class Limiter:
    """Lets requests pass. `book` is None while nobody is limited in anything."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        refused: Callable[[Scope, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`refused` hears of each request that is refused: by whose limit, and by which."""
        self.book: LimitBook | None = None
        self.ledger = ledger
        self.estimates = Estimates()
        self.refused = refused
        self.clock = clock

    def take_book(self, book: LimitBook) -> None:
        """Use the limits of a new table. What was counted stays counted."""
        self.book = book if book.limits else None

    def begin(self, principal: Principal) -> "Passage | None":
        """Return the passage of a request; None when no limit can concern it."""
        book = self.book
        if book is None:
            return None
        owners: list[tuple[Scope, str, Limits]] = []
        if (own := book.find("key", principal.key_id)) is not None:
            owners.append(("key", principal.key_id, own))
        if (own := book.find("tenant", principal.tenant)) is not None:
            owners.append(("tenant", principal.tenant, own))
        return Passage(self, book, owners) if owners or book.route else None


class Passage:
    """One request's. `admit`, and `settle` in the end, whatever became of it."""

    __slots__ = ("_body_bytes", "_book", "_charges", "_guess", "_limiter", "_owners")

    def __init__(self, limiter: Limiter, book: LimitBook, owners: list[tuple[Scope, str, Limits]]) -> None:
        self._limiter = limiter
        self._book = book
        self._owners = owners
        self._charges: list[tuple[Account, int, int]] = []
        self._guess = 0
        self._body_bytes = 0

    def enter_route(self, route: str | None) -> None:
        """Let the limits of a route count too."""
        if route is not None and (own := self._book.find("route", route)) is not None:
            self._owners.append(("route", route, own))

    def least(self, name: str) -> tuple[int, Scope] | None:
        """Return the smallest of the limits `max_tokens` or `max_body_bytes`, and whose it is."""
        found = [
            (value, scope) for scope, _, own in self._owners if (value := getattr(own, name)) is not None
        ]
        return min(found, default=None)

    def check_body(self, size_bytes: int) -> None:
        """Refuse a body that is too large.

        Raises:
            TooLarge: it is over a limit.
        """
        found = self.least("max_body_bytes")
        if found is not None and size_bytes > found[0]:
            self._limiter.refused(found[1], "max_body_bytes")
            raise TooLarge(f"the body is over the {found[1]}'s limit of {found[0]} bytes")

    async def admit(self, body_bytes: int, *, generates: bool) -> None:
        """Count the request, once there is room for it.

        Raises:
            LimitReached: a limit is used up.
            TooLarge: it alone is over a limit of tokens.
        """
        limiter = self._limiter
        self._body_bytes = body_bytes if generates else 0
        self._guess = guess = limiter.estimates.prompt(body_bytes) if generates else 0
        wants = list(self._wants(guess))
        ledger = limiter.ledger
        lacking = ledger.lacking(wants)
        if lacking is not None:
            lacking = await ledger.reach(wants)
        now = limiter.clock()
        if lacking is not None:
            raise self._reached(lacking, dict(wants)[lacking], now)
        self._charges = [(account, account.take(now, amount), amount) for account, amount in wants]

    def settle(self, row: RequestRow, events: int) -> None:
        """Count what the request has taken in truth. `events`: pieces of a stream that were passed on."""
        charges, self._charges = self._charges, []
        if not charges:
            return
        limiter = self._limiter
        limiter.estimates.learn(self._body_bytes, row.prompt_tokens, row.completion_tokens)
        tokens = self._taken(row, events)
        now = limiter.clock()
        for account, slot, amount in charges:
            kind = account.owner.kind
            if kind in _OF_TOKENS:
                account.settle(now, slot, amount, tokens)
            elif kind == "concurrent":
                account.settle(now, slot, amount, 0)

    def standing(self, kind: Kind) -> Standing | None:
        """Return how the client stands with its tightest limit of a kind, its key's or its tenant's.

        A route's limit is no single client's: what is left of it would tell of others.
        """
        ledger, now = self._limiter.ledger, self._limiter.clock()
        found = []
        for scope, name, own in self._owners:
            limit = own.of_kind(kind)
            if limit is not None and scope != "route":
                account = ledger.account(scope, name, kind, limit)
                found.append(Standing(limit, account.remaining(now), account.full_in_s(now)))
        return min(found, key=lambda one: one.remaining / one.limit, default=None)

    def _wants(self, tokens: int) -> Iterator[tuple[Account, int]]:
        ledger = self._limiter.ledger
        for scope, name, own in self._owners:
            for kind in KINDS:
                limit = own.of_kind(kind)
                if limit is None or (kind in _OF_TOKENS and not tokens):
                    continue
                amount = tokens if kind in _OF_TOKENS else 1
                if kind == "tokens" and amount > limit:
                    self._limiter.refused(scope, kind)
                    raise TooLarge(
                        f"the prompt has about {amount} tokens, and the {scope}'s limit is "
                        f"{limit} {_SAID[kind]}"
                    )
                yield ledger.account(scope, name, kind, limit), amount

    def _taken(self, row: RequestRow, events: int) -> int:
        """Return the tokens of a request: as the engine counted them, else as near as can be said."""
        if row.prompt_tokens is not None:
            return row.prompt_tokens + (row.completion_tokens or 0)
        if not self._guess or not row.attempts:
            return 0  # no engine has seen it
        if events:
            return self._guess + events
        if row.status == CLIENT_GONE:  # the engine was at work, for longer the later the client left
            return self._guess + (0 if row.streamed else self._limiter.estimates.answer())
        return 0  # the engine failed

    def _reached(self, account: Account, amount: int, now: float) -> LimitReached:
        scope, kind = account.owner.scope, account.owner.kind
        self._limiter.refused(scope, kind)
        budget = kind in ("day", "month")
        return LimitReached(
            f"the {scope}'s limit of {account.limit} {_SAID[kind]} is reached",
            code="insufficient_quota" if budget else None,
            retry_after_s=account.wait_s(now, amount),
        )
