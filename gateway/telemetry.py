"""Metrics: one registry a process, made by the composition root. Every name begins with `turnout_`.

Labels only ever hold names that the gateway itself knows: routes, versions, replicas, endpoints, codes.
What a client sends is never a label. Pairs of route and version are bounded (`MAX_PAIRS`), and so are
versions alone (`MAX_ADAPTERS`): the first so many have series of their own, all others share one, `other`.
Internal requests are counted apart from those of clients, so that a load test moves no objective.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Summary
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from gateway.core.refs import NONE
from gateway.core.requests import RequestRow
from gateway.core.signals import ABANDONED, CUT_BY_LENGTH, IMPLICIT
from gateway.errors import LIMIT_CODES
from gateway.exposition import Family, families_of
from gateway.tallies import Tally, histogram

MAX_PAIRS = 1000
MAX_ADAPTERS = 1000
OTHER = "other"
LIMITED = "limited"  # the status of a request that a limit of its own refused: no objective counts it
_DURATIONS_S = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
_FIRST_TOKENS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_GAPS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08, 0.15, 0.3, 0.6, 1.2, 2.5, 5)
_WAITS_S = (0.001, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

Key = TypeVar("Key")
_PAIR = ("route", "adapter")
_TOKENS = {
    "prompt_tokens": "Prompt tokens as the engine counted them",
    "completion_tokens": "Completion tokens likewise",
}
_HISTOGRAMS = {
    "duration": ("request_duration_seconds", "From headers to the last byte"),
    "ttft": ("ttft_seconds", "From headers to the first event of a stream"),
    "inter_token": ("inter_token_seconds", "Gaps between the pieces of a stream"),
}


class PairMetrics:
    """What is counted of one route and version: held by whoever counts, since to find it costs more."""

    __slots__ = ("by_status", "completion_tokens", "duration", "inter_token", "prompt_tokens", "ttft")

    def __init__(self) -> None:
        self.by_status: dict[tuple[str, int | str], int] = {}
        self.duration = Tally(_DURATIONS_S)
        self.ttft = Tally(_FIRST_TOKENS_S)
        self.inter_token = Tally(_GAPS_S)
        self.prompt_tokens = 0
        self.completion_tokens = 0


class Telemetry:
    """Every metric of one gateway process."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(f"turnout_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
            return Gauge(f"turnout_{name}", text, labels, registry=registry)

        self.queue_wait = Tally(_WAITS_S)
        self.queued = gauge("queued_requests", "Requests that wait for a replica now")
        self.errors = counter("errors", "Errors by code", ("code",))
        self.retries = counter("retries", "Requests sent once more, by cause", ("cause",))
        self.retries_denied = counter("retries_denied", "Requests not sent again: the retry budget was empty")
        self.quarantined = counter("quarantined", "Requests refused because an engine died under them before")
        self.replica_deaths = counter("replica_deaths", "Requests under which a replica died", ("replica",))
        self.circuit_opened = counter("circuit_opened", "How often a replica was taken out", ("replica",))
        self.health_failures = counter("health_failures", "Health checks that did not pass", ("replica",))
        self.registrations_mended = counter(
            "registrations_mended",
            "Versions an engine had lost, by what came of registering again",
            ("outcome",),
        )
        self.cold_loads = counter(
            "cold_loads", "Versions that requests waited for, by what came of it", ("outcome",)
        )
        self.cold_waiting = gauge(
            "cold_waiting_requests", "Requests that wait for their version to be loaded now"
        )
        drawn = "Requests drawn for a shadow, by what came of it"
        self.shadow_requests = counter("shadow_requests", drawn, ("adapter", "outcome"))
        rated = ("route", "adapter", "metric")
        self._feedback = counter("feedback", "Ratings of any kind", rated)
        self._feedback_values = Summary(
            "turnout_feedback_value",
            "Ratings that are bools (as 0 and 1) or numbers",
            rated,
            registry=registry,
        )
        self._signals = counter(
            "signals", "Answers of which an implicit signal is true", ("route", "adapter", "signal")
        )
        self._structured = counter(
            "structured_answers",
            "Answers to requests for JSON, by whether they are what was asked for",
            ("route", "adapter", "valid"),
        )
        self.canary_decisions = counter(
            "canary_decisions", "What became of canaries, by a machine's first worker", ("route", "decision")
        )
        self.disconnects = counter("disconnects", "Clients that went away before the end")
        self.fallbacks = counter(
            "fallbacks", "Requests answered by a fallback, by the version that was assigned", ("adapter",)
        )
        self.wrong_model = counter(
            "wrong_model", "Answers refused because another version gave them", ("adapter",)
        )
        self.records_dropped = counter("records_dropped", "Request rows that were never stored")
        self.store_errors = counter("store_errors", "Store calls that failed, by task", ("task",))
        self.background_errors = counter(
            "background_errors", "Faults caught in loops and handlers", ("task",)
        )
        self.admin_refused = counter(
            "admin_refused", "Attempts at /admin that were refused, by what was amiss", ("reason",)
        )
        self.record_queue = gauge("record_queue_rows", "Request rows that wait to be stored")
        self.table_generation = gauge("table_generation", "Generation of the routing table in use")
        self.table_age = gauge("table_age_seconds", "Time since the store last confirmed the table")
        self.replica_up = gauge("replica_up", "Whether a replica is healthy", ("replica",))
        self.replica_quarantined = gauge(
            "replica_quarantined", "Whether a replica that keeps failing is left alone", ("replica",)
        )
        self.replica_circuit = gauge(
            "replica_circuit", "Circuit of a replica: 0 closed, 1 half open, 2 open", ("replica",)
        )
        self.replica_share = gauge("replica_share", "Requests in flight that a replica may get from here")
        self.proof_counts = gauge(
            "proofs", "Versions on a replica by their proof: strong, weak, failed, none", ("replica", "proof")
        )
        self.loop_lag = gauge(
            "event_loop_lag_seconds", "How late the event loop came to a timer, the worst lately"
        )
        self.workers = gauge("workers", "Gateway workers that live, here and elsewhere")
        self._pairs: dict[tuple[str, str], PairMetrics] = {}
        self._internal = PairMetrics()
        registry.register(_HotPath(self._pairs, self._internal, self.queue_wait))
        self._answered: set[tuple[str, str, str]] = set()
        self._adapters: set[str] = set()
        self._replicas: set[str] = set()
        self._proofs: set[tuple[str, str]] = set()

    def pair(self, route: str | None, adapter: str) -> PairMetrics:
        """Return the metrics of a route (None: no route) and a version label (empty: unresolved)."""
        key = (route or NONE, adapter or NONE)
        pair = self._pairs.get(key)
        if pair is None:
            if len(self._pairs) >= MAX_PAIRS:
                key = (OTHER, OTHER)
            pair = self._pairs.setdefault(key, PairMetrics())
        return pair

    def of(self, row: RequestRow) -> PairMetrics:
        """Return the metrics that a request's times are counted in."""
        return self._internal if row.internal else self.pair(row.route, row.adapter)

    def rated(self, route: str | None, adapter: str, metric: str | None, value: bool | float | str) -> None:
        """Count a rating that is stored. `metric` is None for one that the route does not declare."""
        labels = self._answer_labels(route, adapter, metric or OTHER)
        self._feedback.labels(*labels).inc()
        if metric is not None and not isinstance(value, str):
            self._feedback_values.labels(*labels).observe(float(value))

    def recorded(self, rows: Iterable[RequestRow]) -> None:
        """Count what the stored rows of clients say of their answers. Called in the recorder's thread."""
        told: dict[tuple[str | None, str, str], int] = {}
        for row in rows:
            if row.internal:
                continue
            if row.finish_reason == "length":
                _add(told, (row.route, row.adapter, CUT_BY_LENGTH))
            if row.status == 499 and row.streamed:
                _add(told, (row.route, row.adapter, ABANDONED))
            if row.schema_valid is not None:
                _add(told, (row.route, row.adapter, "true" if row.schema_valid else "false"))
        for (route, adapter, what), count in told.items():
            counter = self._signals if what in IMPLICIT else self._structured
            counter.labels(*self._answer_labels(route, adapter, what)).inc(count)

    def _answer_labels(self, route: str | None, adapter: str, what: str) -> tuple[str, str, str]:
        key = (route or NONE, adapter or NONE, what)
        if key not in self._answered:
            if len(self._answered) >= MAX_PAIRS:
                return (OTHER, OTHER, OTHER)
            self._answered.add(key)
        return key

    def adapter_label(self, adapter: str) -> str:
        """Return a version's label, or `other` when there are too many."""
        if adapter not in self._adapters:
            if len(self._adapters) >= MAX_ADAPTERS:
                return OTHER
            self._adapters.add(adapter)
        return adapter

    def finished(self, row: RequestRow) -> None:
        """Count a request that has ended."""
        pair = self._internal if row.internal else self.pair(row.route, row.adapter)
        outcome = (row.endpoint, LIMITED if row.error_code in LIMIT_CODES else row.status)
        pair.by_status[outcome] = pair.by_status.get(outcome, 0) + 1
        pair.duration.observe(row.latency_ms / 1000)
        if row.prompt_tokens:
            pair.prompt_tokens += row.prompt_tokens
        if row.completion_tokens:
            pair.completion_tokens += row.completion_tokens
        if row.internal:
            return
        if row.status == 499:
            self.disconnects.inc()
        elif row.error_code is not None:
            self.errors.labels(row.error_code).inc()

    def replicas(self, up: Mapping[str, bool], *, quarantined: Collection[str]) -> None:
        """Say which replicas there are, which are healthy, and which are in quarantine."""
        for gone in self._replicas - up.keys():
            self.replica_up.remove(gone)
            self.replica_quarantined.remove(gone)
            self.replica_circuit.remove(gone)
        for replica, healthy in up.items():
            self.replica_up.labels(replica).set(int(healthy))
            self.replica_quarantined.labels(replica).set(int(replica in quarantined))
            if replica not in self._replicas:
                self.replica_circuit.labels(replica).set(0)
        self._replicas = set(up)

    def proofs(self, counts: Mapping[tuple[str, str], int]) -> None:
        """Say how many versions are proved on each replica, and how."""
        for gone in self._proofs - counts.keys():
            self.proof_counts.remove(*gone)
        for (replica, proof), count in counts.items():
            self.proof_counts.labels(replica, proof).set(count)
        self._proofs = set(counts)

    def circuit(self, replica: str, state: int) -> None:
        """Say what the circuit of a replica is; 2 is open."""
        self.replica_circuit.labels(replica).set(state)
        if state == 2:
            self.circuit_opened.labels(replica).inc()

    def watch_in_flight(self, count: Callable[[], Mapping[str, int]]) -> None:
        """Export `count()` (version label → requests) as turnout_in_flight at every scrape."""
        self.registry.register(_InFlight(count, self.adapter_label))

    def watch_placement(self, placement: Callable[[], Mapping[str, Collection[str]]]) -> None:
        """Export how many replicas serve each version, from `placement()`: version label → replicas."""
        self.registry.register(_Placement(placement, self._adapters))

    def families(self) -> list[Family]:
        """Return what every metric says now."""
        return families_of(self.registry)


def _add(counts: dict[Key, int], key: Key) -> None:
    counts[key] = counts.get(key, 0) + 1


class _HotPath(Collector):
    """The tallies of the hot path as families, read at every scrape."""

    def __init__(
        self, pairs: Mapping[tuple[str, str], PairMetrics], internal: PairMetrics, queue_wait: Tally
    ) -> None:
        self._pairs = pairs
        self._internal = internal
        self._queue_wait = queue_wait

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        pairs = list(self._pairs.items())
        requests = CounterMetricFamily(
            "turnout_requests", "Requests by what the client got", labels=(*_PAIR, "endpoint", "status")
        )
        for labels, pair in pairs:
            for (endpoint, status), count in list(pair.by_status.items()):
                requests.add_metric((*labels, endpoint, str(status)), count)
        yield requests
        for name, text in _TOKENS.items():
            family = CounterMetricFamily(f"turnout_{name}", text, labels=_PAIR)
            for labels, pair in pairs:
                family.add_metric(labels, getattr(pair, name))
            yield family
        for attribute, (name, text) in _HISTOGRAMS.items():
            yield histogram(
                f"turnout_{name}", text, _PAIR, ((labels, getattr(pair, attribute)) for labels, pair in pairs)
            )
        yield histogram(
            "turnout_queue_wait_seconds", "Time a request waited for a replica", (), [((), self._queue_wait)]
        )
        yield from self._of_internal()

    def _of_internal(self) -> Iterable[Metric]:
        requests = CounterMetricFamily(
            "turnout_internal_requests",
            "Requests of shadows, evaluations and load tests, which no other count of requests has",
            labels=("endpoint", "status"),
        )
        for (endpoint, status), count in list(self._internal.by_status.items()):
            requests.add_metric((endpoint, str(status)), count)
        yield requests
        for attribute, (name, text) in _HISTOGRAMS.items():
            tally = getattr(self._internal, attribute)
            yield histogram(f"turnout_internal_{name}", f"{text}, of internal requests", (), [((), tally)])


class _InFlight:
    """turnout_in_flight, read from the counts themselves."""

    def __init__(self, count: Callable[[], Mapping[str, int]], label: Callable[[str], str]) -> None:
        self._count = count
        self._label = label

    def collect(self) -> Iterable[Metric]:
        """Return the family with a sample for each version that has requests now."""
        counts: dict[str, int] = {}
        for adapter, value in self._count().items():
            label = self._label(adapter)
            counts[label] = counts.get(label, 0) + value
        family = GaugeMetricFamily("turnout_in_flight", "Requests under way by version", labels=["adapter"])
        for label, value in counts.items():
            family.add_metric([label], value)
        yield family


class _Placement:
    """turnout_adapter_replicas, from the table in use. Of very many versions, those with traffic alone."""

    def __init__(
        self, placement: Callable[[], Mapping[str, Collection[str]]], known: Collection[str]
    ) -> None:
        self._placement = placement
        self._known = known

    def collect(self) -> Iterable[Metric]:
        """Return the family."""
        placement = self._placement()
        family = GaugeMetricFamily(
            "turnout_adapter_replicas", "Replicas on which a version is proved", labels=["adapter"]
        )
        labels = (
            placement
            if len(placement) <= MAX_ADAPTERS
            else [each for each in self._known if each in placement]
        )
        for label in labels:
            family.add_metric([label], len(placement[label]))
        yield family
