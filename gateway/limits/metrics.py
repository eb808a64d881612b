"""What is exported of limits: refusals, budgets, waits by class, and how fresh the exchange is.

Labels are scopes, kinds and classes, of which there are few, and the names of tenants and routes with
budgets, of which the fullest are shown (`MAX_BUDGETS`). A key's budget has no series of its own.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.core.limits import PRIORITIES, Priority
from gateway.limits.accounts import Budget
from gateway.limits.ledger import Ledger
from gateway.tallies import Tally, histogram

MAX_BUDGETS = 100
_WAITS_S = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class LimitMetrics:
    """The metrics of limits in one worker."""

    def __init__(self, registry: CollectorRegistry, priority_of: Callable[[str], Priority]) -> None:
        self._refused = Counter(
            "turnout_limited_requests",
            "Requests refused by a limit: whose it is, and which",
            ("scope", "limit"),
            registry=registry,
        )
        self._priority_of = priority_of
        self._waits: dict[Priority, Tally] = {priority: Tally(_WAITS_S) for priority in PRIORITIES}
        self._registry = registry

    def refused(self, scope: str, limit: str) -> None:
        """Count a request that was refused."""
        self._refused.labels(scope, limit).inc()

    def waited(self, tenant: str, waited_s: float) -> None:
        """Count a request that had to wait for a place."""
        self._waits[self._priority_of(tenant)].observe(waited_s)

    def watch(self, ledger: Ledger) -> None:
        """Export what stands in a ledger, at every scrape."""
        self._registry.register(_Read(ledger, self._waits))


class _Read(Collector):
    """What is read from the accounts."""

    def __init__(self, ledger: Ledger, waits: dict[Priority, Tally]) -> None:
        self._ledger = ledger
        self._waits = waits

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        age = GaugeMetricFamily(
            "turnout_limits_age_seconds",
            "Time since limits were last exchanged with the store; 0 without any",
        )
        age.add_metric((), self._ledger.age_s())
        yield age
        used = GaugeMetricFamily(
            "turnout_budget_used_ratio",
            "How much of a budget of tokens is used, of the fullest",
            labels=("scope", "name", "period"),
        )
        for share, labels in self._budgets():
            used.add_metric(labels, share)
        yield used
        yield histogram(
            "turnout_queue_wait_by_priority_seconds",
            "Time that requests waited for a replica which had to, by their tenant's priority",
            ("priority",),
            (((priority,), tally) for priority, tally in self._waits.items()),
        )

    def _budgets(self) -> list[tuple[float, tuple[str, str, str]]]:
        budgets: list[tuple[float, tuple[str, str, str]]] = [
            (account.used(0.0) / account.limit, (owner.scope, owner.name, str(owner.kind)))
            for owner, account in list(self._ledger.accounts.items())
            if isinstance(account, Budget) and owner.scope != "key"
        ]
        return sorted(budgets, reverse=True)[:MAX_BUDGETS]
