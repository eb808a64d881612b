"""turnout_drift_* and turnout_watch_*: what the drift monitor and its watch found, as metrics.

They are processes of their own; the gateway exports what they left behind.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prometheus_client.core import GaugeMetricFamily, Metric

from gateway.store.drift import DriftRow
from gateway.store.watches import WatchRow


class DriftMetrics:
    """A collector of the newest verdict of each route, as `latest()` returns them; it must be cheap."""

    def __init__(self, latest: Callable[[], Iterable[DriftRow]]) -> None:
        self._latest = latest

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        detected = _family("drift_detected", "1 when the newest check found drift")
        checked = _family("drift_checked_timestamp_seconds", "When the newest check ran")
        rows = _family("drift_rows", "Rows in each window of the newest check", "window")
        effect = _family("drift_effect", "Size of the difference between the windows", "feature")
        p_value = _family("drift_p_value", "Probability of such a difference without drift", "feature")
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


class WatchMetrics:
    """A collector of where the watch of each route stands. Streams are the detector's, and the ratings'."""

    def __init__(self, rows: Callable[[], Iterable[WatchRow]]) -> None:
        self._rows = rows

    def collect(self) -> Iterable[Metric]:
        """Return the families."""
        looked = _family("watch_looked_timestamp_seconds", "When the watch last looked at the route")
        due = _family("watch_due_timestamp_seconds", "When the watch promised to look again")
        failed = _family("watch_looks_failed", "Looks that could not be made since the watch began")
        rows = _family("watch_rows", "Requests in each window of the last look", "window")
        missing = _family("watch_missing_rows", "Requests that the reference still needs")
        evidence = _family(
            "watch_evidence", "Evidence at the last look as a share of an alarm's, by stream", "stream"
        )
        effect = _family("watch_effect", "Size of the change that a stream saw", "stream")
        alarm = _family("watch_alarm_timestamp_seconds", "When a stream last raised an alarm", "stream")
        for row in self._rows():
            name, figures = row.route, row.figures
            for metric, value in ((looked, row.looked_at), (due, row.due_at), (failed, float(row.failed))):
                if value is not None:
                    metric.add_metric([name], value)
            for window, count in figures.get("rows", {}).items():
                rows.add_metric([name, str(window)], float(count))
            lacking = figures.get("too_little") or {"need_rows": 0, "rows": 0}
            missing.add_metric([name], float(max(0, lacking["need_rows"] - lacking["rows"])))
            for stream, share in _shares(figures).items():
                evidence.add_metric([name, stream], share)
            for stream, size in _effects(figures).items():
                effect.add_metric([name, stream], size)
            for stream, at in row.alarms.items():
                alarm.add_metric([name, stream], at)
        yield from (looked, due, failed, rows, missing, evidence, effect, alarm)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"turnout_{name}", text, labels=["route", *labels])


def _shares(figures: Mapping[str, Any]) -> dict[str, float]:
    """Return each stream's evidence against its threshold; the detector averages its own to `together`."""
    parts: dict[str, tuple[float, float]] = {}
    if detector := figures.get("detector"):
        threshold = detector["threshold"]
        parts = {name: (part["evidence"], threshold) for name, part in figures["streams"].items()}
        parts["together"] = (detector["evidence"], threshold)
    for name, each in figures.get("ratings", {}).items():
        parts[name] = (each["evidence"], each["threshold"])
    return {name: math.exp(min(0.0, mine - needed)) for name, (mine, needed) in parts.items()}


def _effects(figures: Mapping[str, Any]) -> dict[str, float]:
    parts = {**figures.get("streams", {}), **figures.get("ratings", {})}
    sizes = {name: part.get("effect") or part.get("difference") for name, part in parts.items()}
    return {name: float(size["value"]) for name, size in sizes.items() if size}
