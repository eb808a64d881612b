"""What an experiment compares: which arms, since which epochs, and by which metrics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from gateway.core.canary import ERRORS, Canary, Slo
from gateway.core.routes import Metric
from gateway.experiments.measures import (
    Measure,
    comparable,
    feedback_measure,
    request_measures,
    signal_measures,
)
from gateway.experiments.outcomes import Epochs

ALPHA = 0.05
"""Of verdicts, of guardrails and of the warning of a mismatch: of each family by itself."""

Sticky = Literal["subject", "key", "tenant", "none"]


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is compared, since which epochs, and by what. `same_expected`: all arms are known to be equal."""

    route: str
    stable: str
    candidates: tuple[str, ...]
    epochs: Epochs
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    slo: Slo = field(default_factory=Slo)
    sticky: Sticky = "subject"
    canary: Canary | None = None
    step_after_generation: int = 0
    same_expected: bool = False

    def measures(self) -> dict[str, Measure]:
        """Return every metric by which arms are compared."""
        declared = {name: feedback_measure(name, self.metrics[name]) for name in self._declared()}
        return {**request_measures(self.slo), **signal_measures(self.slo), **declared}

    def primary(self) -> str:
        """Return the metric with the alpha of its own: the declared one, else the first, else errors."""
        names = self._declared()
        return next((name for name in names if self.metrics[name].primary), names[0] if names else ERRORS)

    def _declared(self) -> list[str]:
        return [name for name, metric in self.metrics.items() if comparable(name, metric)]
