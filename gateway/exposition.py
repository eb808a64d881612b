"""What the metrics of several workers say together. Pure: families in, families or Prometheus' text out.

Counters, histograms and summaries add up. A gauge follows its rule: the sum of the workers', the least, the
greatest, or what the first worker says.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import orjson
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

GaugeRule = Literal["sum", "min", "max", "first"]
Labels = tuple[tuple[str, str], ...]


@dataclass(slots=True)
class Family:
    """One metric with all of its samples, by sample name and labels."""

    name: str
    text: str
    kind: str
    samples: dict[tuple[str, Labels], float]

    @property
    def adds_up(self) -> bool:
        """Whether it only ever grows."""
        return self.kind in ("counter", "histogram", "summary")


def families_of(collector: Collector) -> list[Family]:
    """Read a registry. The times at which series were made are left out: they double what is scraped."""
    return [
        Family(
            metric.name,
            metric.documentation,
            metric.type,
            {
                (sample.name, tuple(sample.labels.items())): float(sample.value)
                for sample in metric.samples
                if not sample.name.endswith("_created")
            },
        )
        for metric in collector.collect()
    ]


def merge(workers: Iterable[Sequence[Family]], rules: Mapping[str, GaugeRule]) -> list[Family]:
    """Make one set of families of several. A gauge without a rule takes the greatest value."""
    merged: dict[str, Family] = {}
    for families in workers:
        for family in families:
            into = merged.get(family.name)
            if into is None:
                merged[family.name] = Family(family.name, family.text, family.kind, dict(family.samples))
            elif into.kind == family.kind:
                rule = "sum" if family.adds_up else rules.get(family.name, "max")
                if rule != "first":
                    _add(into.samples, family.samples, rule)
    return list(merged.values())


def _add(
    into: dict[tuple[str, Labels], float], samples: Mapping[tuple[str, Labels], float], rule: GaugeRule
) -> None:
    for key, value in samples.items():
        have = into.get(key)
        if have is None:
            into[key] = value
        elif rule == "sum":
            into[key] = have + value
        else:
            into[key] = min(have, value) if rule == "min" else max(have, value)


def render(families: Iterable[Family]) -> bytes:
    """Return families in Prometheus' text format."""
    return generate_latest(_Fixed(families))


def dump(families: Iterable[Family]) -> bytes:
    """Return families as JSON, for another process."""
    return orjson.dumps(
        [
            [family.name, family.text, family.kind, [[*key, value] for key, value in family.samples.items()]]
            for family in families
        ]
    )


def load(data: bytes) -> list[Family]:
    """Read what `dump` wrote.

    Raises:
        ValueError: it is not that.
    """
    try:
        return [
            Family(
                name,
                text,
                kind,
                {
                    (sample, tuple((label, said) for label, said in labels)): float(value)
                    for sample, labels, value in samples
                },
            )
            for name, text, kind, samples in orjson.loads(data)
        ]
    except (TypeError, ValueError) as error:
        raise ValueError(f"these are no metrics: {error}") from error


class _Fixed(Collector):
    """Families as prometheus_client's renderer wants them."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        for family in self._families:
            metric = Metric(family.name, family.text, family.kind)
            metric.samples = [
                Sample(name, dict(labels), value) for (name, labels), value in family.samples.items()
            ]
            yield metric
