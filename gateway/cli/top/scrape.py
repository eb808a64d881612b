"""One reading of `/metrics`, and what happened between two of them. Pure but for the parser.

Counters of a gateway begin again at zero when it starts again. As Prometheus does, a counter that has fallen
is taken to have begun at zero: what it says now is what happened since.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Labels = frozenset[tuple[str, str]]
Series = Mapping[Labels, float]


class NotMetrics(ValueError):
    """What was read is not in Prometheus' text format."""


@dataclass(frozen=True, slots=True)
class Scrape:
    """What `/metrics` said at a moment: samples by name; `at` is the reader's clock, in seconds."""

    at: float
    samples: Mapping[str, Series] = field(default_factory=dict)

    def values(self, name: str, **where: str) -> list[tuple[dict[str, str], float]]:
        """Return the samples of a name with these labels, each with all of its labels."""
        wanted = set(where.items())
        return [
            (dict(labels), value) for labels, value in self.samples.get(name, {}).items() if wanted <= labels
        ]

    def only(self, name: str) -> float | None:
        """Return the one sample of a name, or None."""
        return next((value for _, value in self.values(name)), None)

    def by(self, name: str, label: str, **where: str) -> dict[str, float]:
        """Return the sums of a name's samples by a label."""
        return _sums(self.values(name, **where), label)


def parse(text: str, *, at: float) -> Scrape:
    """Return a reading of Prometheus' text format.

    Raises:
        NotMetrics: it is something else.
    """
    from prometheus_client.parser import (  # noqa: PLC0415 - other commands need not pay for it
        text_string_to_metric_families,
    )

    samples: dict[str, dict[Labels, float]] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                samples.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    except (ValueError, KeyError, IndexError) as error:
        raise NotMetrics(f"it is not in Prometheus' text format ({type(error).__name__})") from error
    return Scrape(at, samples)


@dataclass(frozen=True, slots=True)
class Between:
    """What happened between two readings of one gateway."""

    before: Scrape
    now: Scrape

    @property
    def seconds(self) -> float:
        """How long that was, by the reader's monotonic clock."""
        return max(self.now.at - self.before.at, 1e-9)

    @property
    def restarted(self) -> bool:
        """Whether a counter has fallen, so that the gateway has begun to count again."""
        return any(
            value < self.before.samples.get(name, {}).get(labels, 0.0)
            for name in self.now.samples
            if name.endswith("_total")
            for labels, value in self.now.samples[name].items()
        )

    def increases(self, name: str, **where: str) -> list[tuple[dict[str, str], float]]:
        """Return by how much each sample of a counter has grown."""
        wanted = set(where.items())
        earlier = self.before.samples.get(name, {})
        return [
            (dict(labels), value if value < (old := earlier.get(labels, 0.0)) else value - old)
            for labels, value in self.now.samples.get(name, {}).items()
            if wanted <= labels
        ]

    def increase(self, name: str, **where: str) -> float:
        """Return by how much the samples of a counter have grown together."""
        return sum(grown for _, grown in self.increases(name, **where))

    def rates(self, name: str, label: str, *, keep: Callable[[str], bool] | None = None) -> dict[str, float]:
        """Return growth a second by a label; with `keep`, of samples whose `status` passes it."""
        grown = [
            (labels, value)
            for labels, value in self.increases(name)
            if keep is None or keep(labels.get("status", ""))
        ]
        return {key: value / self.seconds for key, value in _sums(grown, label).items()}

    def quantile(self, q: float, name: str, **where: str) -> float | None:
        """Return a quantile of what a histogram has seen meanwhile; None when that was nothing."""
        buckets: dict[float, float] = {}
        for labels, grown in self.increases(f"{name}_bucket", **where):
            bound = float(labels["le"])
            buckets[bound] = buckets.get(bound, 0.0) + grown
        return quantile(q, buckets)


def quantile(q: float, buckets: Mapping[float, float]) -> float | None:
    """Return the quantile of cumulative buckets by linear interpolation, as `histogram_quantile` does."""
    bounds = sorted(buckets)
    total = buckets[bounds[-1]] if bounds else 0.0
    if total <= 0 or math.isinf(bounds[0]):
        return None
    rank = q * total
    lower, below = 0.0, 0.0
    for bound in bounds:
        if buckets[bound] >= rank:
            if math.isinf(bound):
                return lower
            inside = buckets[bound] - below
            return bound if inside <= 0 else lower + (bound - lower) * (rank - below) / inside
        lower, below = bound, buckets[bound]
    return lower


def _sums(samples: Iterable[tuple[dict[str, str], float]], label: str) -> dict[str, float]:
    sums: dict[str, float] = {}
    for labels, value in samples:
        if label in labels:
            sums[labels[label]] = sums.get(labels[label], 0.0) + value
    return sums
