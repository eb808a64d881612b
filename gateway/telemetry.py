"""Metrics: one registry a process, made by the composition root. Every name begins with `turnout_`.

Labels only ever hold names that the gateway itself knows: routes, versions, replicas, endpoints, codes.
What a client sends is never a label, and pairs of route and version are bounded (`MAX_PAIRS`).
"""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from gateway.core.refs import NONE
from gateway.core.requests import RequestRow

MAX_PAIRS = 500
OTHER = "other"
_DURATIONS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_FIRST_TOKENS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_GAPS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5)
_WAITS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class PairMetrics:
    """The metric children of one route and version, bound once: to find them costs more than to use them."""

    __slots__ = (
        "_by_status",
        "_family",
        "completion_tokens",
        "duration",
        "inter_token",
        "labels",
        "prompt_tokens",
        "ttft",
    )

    def __init__(self, telemetry: "Telemetry", route: str, adapter: str) -> None:
        self.labels = (route, adapter)
        self._family = telemetry.requests
        self._by_status: dict[tuple[str, int], Counter] = {}
        self.duration = telemetry.duration.labels(route, adapter)
        self.ttft = telemetry.ttft.labels(route, adapter)
        self.inter_token = telemetry.inter_token.labels(route, adapter)
        self.prompt_tokens = telemetry.prompt_tokens.labels(route, adapter)
        self.completion_tokens = telemetry.completion_tokens.labels(route, adapter)

    def requests(self, endpoint: str, status: int) -> Counter:
        """Return the counter of requests that ended with `status`."""
        counter = self._by_status.get((endpoint, status))
        if counter is None:
            counter = self._family.labels(*self.labels, endpoint, str(status))
            self._by_status[(endpoint, status)] = counter
        return counter


class Telemetry:
    """Every metric of one gateway process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        pair = ("route", "adapter")

        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(f"turnout_{name}", text, labels, registry=registry)

        def histogram(
            name: str, text: str, buckets: tuple[float, ...], labels: Iterable[str] = ()
        ) -> Histogram:
            return Histogram(f"turnout_{name}", text, labels, buckets=buckets, registry=registry)

        def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
            return Gauge(f"turnout_{name}", text, labels, registry=registry)

        self.requests = counter("requests", "Requests by what the client got", (*pair, "endpoint", "status"))
        self.duration = histogram(
            "request_duration_seconds", "From headers to the last byte", _DURATIONS_S, pair
        )
        self.ttft = histogram(
            "ttft_seconds", "From headers to the first event of a stream", _FIRST_TOKENS_S, pair
        )
        self.inter_token = histogram(
            "inter_token_seconds", "Gaps between the pieces of a stream", _GAPS_S, pair
        )
        self.queue_wait = histogram("queue_wait_seconds", "Time a request waited for a replica", _WAITS_S)
        self.queued = gauge("queued_requests", "Requests that wait for a replica now")
        self.prompt_tokens = counter("prompt_tokens", "Prompt tokens as the engine counted them", pair)
        self.completion_tokens = counter("completion_tokens", "Completion tokens likewise", pair)
        self.errors = counter("errors", "Errors by code", ("code",))
        self.retries = counter("retries", "Requests sent to another replica, by cause", ("cause",))
        self.disconnects = counter("disconnects", "Clients that went away before the end")
        self.wrong_model = counter(
            "wrong_model", "Answers refused because another version gave them", ("adapter",)
        )
        self.records_dropped = counter("records_dropped", "Request rows that were never stored")
        self.store_errors = counter("store_errors", "Store calls that failed, by task", ("task",))
        self.background_errors = counter(
            "background_errors", "Faults caught in loops and handlers", ("task",)
        )
        self.record_queue = gauge("record_queue_rows", "Request rows that wait to be stored")
        self.table_generation = gauge("table_generation", "Generation of the routing table in use")
        self.table_age = gauge("table_age_seconds", "Time since the store last confirmed the table")
        self.replica_up = gauge("replica_up", "Whether a replica is healthy", ("replica",))
        self._pairs: dict[tuple[str, str], PairMetrics] = {}
        self._replicas: set[str] = set()

    def pair(self, route: str | None, adapter: str) -> PairMetrics:
        """Return the metrics of a route (None: no route) and a version label (empty: unresolved)."""
        key = (route or NONE, adapter or NONE)
        pair = self._pairs.get(key)
        if pair is None:
            if len(self._pairs) >= MAX_PAIRS:
                key = (OTHER, OTHER)
            pair = self._pairs.setdefault(key, PairMetrics(self, *key))
        return pair

    def finished(self, row: RequestRow) -> None:
        """Count a request that has ended."""
        pair = self.pair(row.route, row.adapter)
        pair.requests(row.endpoint, row.status).inc()
        pair.duration.observe(row.latency_ms / 1000)
        if row.prompt_tokens:
            pair.prompt_tokens.inc(row.prompt_tokens)
        if row.completion_tokens:
            pair.completion_tokens.inc(row.completion_tokens)
        if row.status == 499:
            self.disconnects.inc()
        elif row.error_code is not None:
            self.errors.labels(row.error_code).inc()

    def replicas(self, up: Mapping[str, bool]) -> None:
        """Say which replicas there are and which are healthy."""
        for gone in self._replicas - up.keys():
            self.replica_up.remove(gone)
        for replica, healthy in up.items():
            self.replica_up.labels(replica).set(int(healthy))
        self._replicas = set(up)

    def watch_in_flight(self, count: Callable[[], Mapping[str, int]]) -> None:
        """Export `count()` (version label → requests) as turnout_in_flight at every scrape."""
        self.registry.register(_InFlight(count))

    def render(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)


class _InFlight:
    """turnout_in_flight, read from the counts themselves."""

    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        """Return the family with a sample for each version that has requests or had some lately."""
        family = GaugeMetricFamily("turnout_in_flight", "Requests under way by version", labels=["adapter"])
        for adapter, value in self._count().items():
            family.add_metric([adapter], value)
        yield family
