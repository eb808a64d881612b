"""The parts of one worker that limits and shares are made of, wired."""

from gateway.core.limits import EVERY, LimitBook, Priority
from gateway.limits.ledger import Ledger, Store
from gateway.limits.limiter import Limiter
from gateway.limits.metrics import LimitMetrics
from gateway.telemetry import Telemetry

_RANKS: dict[Priority, int] = {"high": -1, "normal": 0, "low": 1}


class LimitParts:
    """Accounts, limiter and metrics, with the book of the table in use."""

    def __init__(self, store: Store, worker_id: str, telemetry: Telemetry) -> None:
        self.metrics = LimitMetrics(telemetry.registry, self.priority)
        self.ledger = Ledger(store, worker_id, telemetry)
        self.metrics.watch(self.ledger)
        self.limiter = Limiter(self.ledger, refused=self.metrics.refused)
        self._priorities: dict[str, Priority] = {}

    def take(self, book: LimitBook) -> dict[str, float]:
        """Use the book of a new table; return the tenants' weights in the queue."""
        self.limiter.take_book(book)
        self._priorities = book.priorities()
        return book.shares()

    def priority(self, tenant: str) -> Priority:
        """Return the priority of a tenant."""
        return self._priorities.get(tenant) or self._priorities.get(EVERY, "normal")

    def rank(self, tenant: str) -> int:
        """Return the engine's `priority` of a tenant's requests; the smallest goes first."""
        return _RANKS[self.priority(tenant)]
