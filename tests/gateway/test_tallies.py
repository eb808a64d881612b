"""The hot path's own counters say what prometheus_client's would."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from gateway.tallies import Tally, histogram

BOUNDS = (0.1, 0.5, 1, 10)


class One(Collector):
    """A collector of one family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        return [self._metric]


@given(st.lists(st.one_of(st.floats(0, 20), st.sampled_from(BOUNDS))))
def test_a_tally_is_a_histogram(values: list[float]) -> None:
    """The same values give the same exposition, bucket by bucket; a bound belongs to its bucket."""
    theirs = CollectorRegistry()
    library = Histogram("h", "text", ["l"], buckets=BOUNDS, registry=theirs).labels("x")
    tally = Tally(BOUNDS)
    for value in values:
        library.observe(value)
        tally.observe(value)
    ours = generate_latest(One(histogram("h", "text", ["l"], [(["x"], tally)])))
    kept = [line for line in generate_latest(theirs).splitlines() if b"_created" not in line]
    assert sorted(ours.splitlines()) == sorted(kept)
    assert tally.count == len(values)
