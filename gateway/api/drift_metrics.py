"""turnout_drift_*: the drift monitor's verdicts as metrics.

The monitor is a process of its own that ends after each check; the gateway exports what it left behind.
"""

from collections.abc import Callable, Iterable

from prometheus_client.core import GaugeMetricFamily, Metric

from gateway.store.drift import DriftRow


class DriftMetrics:
    """A collector of the newest verdict of each route, as `latest()` returns them; it must be cheap."""

    def __init__(self, latest: Callable[[], Iterable[DriftRow]]) -> None:
        self._latest = latest

    def collect(self) -> Iterable[Metric]:
        """Return the families."""

        def family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(f"turnout_drift_{name}", text, labels=["route", *labels])

        detected = family("detected", "1 when the newest check found drift")
        checked = family("checked_timestamp_seconds", "When the newest check ran")
        rows = family("rows", "Rows in each window of the newest check", "window")
        effect = family("effect", "Size of the difference between the windows", "feature")
        p_value = family("p_value", "Probability of such a difference without drift", "feature")
        for verdict in self._latest():
            detected.add_metric([verdict.route], float(verdict.verdict == "drift"))
            checked.add_metric([verdict.route], verdict.at)
            for window, count in verdict.figures.get("rows", {}).items():
                rows.add_metric([verdict.route, str(window)], float(count))
            for feature, figures in verdict.figures.get("features", {}).items():
                for metric, key in ((effect, "effect"), (p_value, "p_value")):
                    if isinstance(figures.get(key), int | float):
                        metric.add_metric([verdict.route, str(feature)], float(figures[key]))
        yield from (detected, checked, rows, effect, p_value)
