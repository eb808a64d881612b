"""Ledgers on a store in memory, and a clock that tests turn."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from gateway.core.limits import Kind, LimitBook, Limits
from gateway.core.requests import Principal, RequestRow, Role
from gateway.limits.ledger import Ledger, Turn
from gateway.limits.limiter import Limiter, Passage
from gateway.store.database import StoreUnavailable
from gateway.store.limits import ClaimRow, Period, Said, Spent
from gateway.telemetry import Telemetry

TENANT = Principal("k1", "shop", frozenset(Role))


@dataclass
class Clock:
    """A monotonic clock."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class MemoryStore:
    """What the store does, without one. `away`: it does not answer. Budgets never end here."""

    claims: dict[str, ClaimRow] = field(default_factory=dict)
    tokens: dict[tuple[str, str, str], int] = field(default_factory=dict)
    away: bool = False
    exchanges: int = 0

    def exchange(
        self,
        worker: str,
        turn: int,
        decide: Callable[[list[ClaimRow]], tuple[Said, Collection[tuple[str, int]]]],
        *,
        spend: Mapping[tuple[str, str, str], int],
    ) -> Spent:
        if self.away:
            raise StoreUnavailable("switched off")
        self.exchanges += 1
        said, gone = decide([row for row in self.claims.values() if row.worker != worker])
        self.claims[worker] = ClaimRow(worker, turn, dict(said))
        for other, last in gone:
            if self.claims[other].turn == last:
                del self.claims[other]
        for budget, tokens in spend.items():
            self.tokens[budget] = max(0, self.tokens.get(budget, 0) + tokens)
        totals = {budget: self.tokens[budget] for budget in spend}
        return Spent(totals, {"day": Period("2026-01-31", 3600.0), "month": Period("2026-01", 3600.0)})

    def forget(self, worker: str) -> None:
        self.claims.pop(worker, None)


class Worker:
    """A worker's ledger and limiter, whose exchanges tests do step by step."""

    def __init__(self, name: str, store: MemoryStore, clock: Clock, *, workers: int = 1) -> None:
        self.name = name
        self.store = store
        self.clock = clock
        self.ledger = Ledger(store, name, Telemetry(), clock=clock)
        self.ledger.workers = workers
        self.refused: list[tuple[str, str]] = []
        self.limiter = Limiter(self.ledger, refused=lambda *limit: self.refused.append(limit), clock=clock)
        self.turn: Turn | None = None

    def begin(self) -> None:
        """Begin an exchange; what was under way is lost, whatever the store has made of it."""
        self.turn = self.ledger.begin()

    def commit(self) -> Spent:
        """Let the store do its part."""
        assert self.turn is not None
        return self.store.exchange(self.name, self.turn.number, self.turn.decide, spend=self.turn.spend)

    def end(self, spent: Spent) -> None:
        """Hear of it."""
        assert self.turn is not None
        self.ledger.end(self.turn, spent)
        self.turn = None

    def exchange(self) -> None:
        """Do all of it at once, as the ledger's own loop does."""
        try:
            self.begin()
            self.end(self.commit())
        except StoreUnavailable:
            self.ledger._lost = True

    def take(self, name: str, kind: Kind, limit: int, amount: int) -> int | None:
        """Take an amount of a tenant's limit as a request does; its slot, or None when it is refused."""
        account = self.ledger.account("tenant", name, kind, limit)
        wants = [(account, amount)]
        if self.ledger.lacking(wants) is not None:
            if self.ledger._asks_for(wants):
                self.exchange()
            if self.ledger.lacking(wants) is not None:
                return None
        return account.take(self.clock.now, amount)


def book(**limits: Limits) -> LimitBook:
    """Return a book: `key`, `tenant` and `route` are those of k1, shop and support."""
    names = {"key": "k1", "tenant": "shop", "route": "support"}
    return LimitBook.of({(scope, names[scope]): one.document() for scope, one in limits.items()})


def passage(worker: Worker, limits: LimitBook) -> Passage:
    """Begin a request of `TENANT`."""
    worker.limiter.take_book(limits)
    begun = worker.limiter.begin(TENANT)
    assert begun is not None
    return begun


def row(**told: object) -> RequestRow:
    """Return a row of a request that an engine has seen."""
    made = RequestRow("req-1", 0.0, "chat/completions", attempts=1, status=200)
    for name, value in told.items():
        setattr(made, name, value)
    return made
