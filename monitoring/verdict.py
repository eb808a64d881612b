"""The verdict on two windows: figures, decision and the words for them. Pure functions of columns.

`Figures.document()` is what the drift table stores and `/metrics` exports. Its form:

    {"rows": {"reference": 500, "current": 500},
     "windows": {"reference": {"first_at", "last_at", "adapters", "subjects", "rows_with_subject"},
                 "current": {…}, "rule": "…"},
     "features": {"embedding": {"statistic", "p_value", "adjusted_p", "effect", "drifted",
                                "reference", "current"}, "prompt_chars": {…}, "answer_chars": {…}},
     "described": {"latency_ms": {"effect", "reference", "current"}, …},
     "feedback": {"verdict": "worse", "metrics": {"thumbs": {…}}},
     "alpha": 0.01, "min_rows": 50, "permutations": 1999, "bandwidth": 1.2, "notes": ["…"]}

`features` holds only what was tested, always with numbers; a feature with too few values is named in the
notes. `reference` and `current` are medians (null for embeddings). `effect` is the MMD for embeddings and
the Kolmogorov-Smirnov gap D for lengths, both 0 for equal samples.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np

from monitoring.features import Columns
from monitoring.feedback import FeedbackFigures
from monitoring.mmd import MmdResult
from monitoring.permutation import (
    PERMUTATIONS,
    SEED,
    FloatArray,
    TwoSampleResult,
    holm,
    kolmogorov_smirnov,
)

EMBEDDING = "embedding"
TESTED_LENGTHS = ("prompt_chars", "answer_chars")
DESCRIBED = ("prompt_tokens", "answer_tokens", "latency_ms", "ttft_ms")

ONE_LOOK = (
    "One look at two windows: the chance of a false alarm holds for this look alone, and only when the rows "
    "of one population are exchangeable. Every further look adds its own chance; rows of one session or "
    "subject that resemble each other raise it."
)


class Verdict(StrEnum):
    """What can be said of a route."""

    TOO_LITTLE_DATA = "too_little_data"
    NO_DRIFT = "no_drift"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class FeatureFigures:
    """One tested feature: evidence (`p_value`, `adjusted_p` by Holm), and beside it the effect."""

    statistic: float
    p_value: float
    adjusted_p: float
    effect: float
    drifted: bool
    reference: float | None = None
    current: float | None = None


@dataclass(frozen=True, slots=True)
class DescribedFigures:
    """One feature that is shown and not tested: it moves with load, or says again what another says."""

    effect: float
    reference: float
    current: float


@dataclass(frozen=True, slots=True)
class WindowFigures:
    """One window: its rows, times (seconds since the epoch), and who answered how often.

    `subjects` are the distinct sticky subjects of the `rows_with_subject` rows that have one.
    """

    rows: int
    first_at: float | None
    last_at: float | None
    adapters: dict[str, int]
    subjects: int
    rows_with_subject: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that a verdict rests on."""

    reference: WindowFigures
    current: WindowFigures
    rule: str
    alpha: float
    min_rows: int
    features: dict[str, FeatureFigures] = field(default_factory=dict)
    described: dict[str, DescribedFigures] = field(default_factory=dict)
    feedback: FeedbackFigures = field(default_factory=FeedbackFigures)
    permutations: int = PERMUTATIONS
    bandwidth: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict: drift when any tested feature drifted; nothing is said when nothing was tested."""
        if not self.features:
            return Verdict.TOO_LITTLE_DATA
        return Verdict.DRIFT if self.drifted else Verdict.NO_DRIFT

    @property
    def drifted(self) -> list[str]:
        """The features that drifted."""
        return [name for name, feature in self.features.items() if feature.drifted]

    def document(self) -> dict[str, Any]:
        """Return the JSON document of this module's docstring."""
        reference, current = asdict(self.reference), asdict(self.current)
        return {
            "rows": {"reference": reference.pop("rows"), "current": current.pop("rows")},
            "windows": {"reference": reference, "current": current, "rule": self.rule},
            "features": {name: asdict(feature) for name, feature in self.features.items()},
            "described": {name: asdict(feature) for name, feature in self.described.items()},
            "feedback": self.feedback.document(),
            "alpha": self.alpha,
            "min_rows": self.min_rows,
            "permutations": self.permutations,
            "bandwidth": self.bandwidth,
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class Tested:
    """The tests' outcomes: figures by feature, the untested by name with the reason."""

    features: dict[str, FeatureFigures]
    untested: dict[str, str]


def judge_features(
    reference: Columns,
    current: Columns,
    mmd: MmdResult | None,
    *,
    alpha: float,
    min_rows: int,
    seed: int = SEED,
) -> Tested:
    """Test lengths, take in the embeddings' test when there is one, and correct by Holm over all of them."""
    results: dict[str, TwoSampleResult] = {}
    untested: dict[str, str] = {}
    if mmd is not None:
        results[EMBEDDING] = TwoSampleResult(mmd.statistic, mmd.p_value, mmd.effect)
    for name in TESTED_LENGTHS:
        first, second = reference.present(name), current.present(name)
        if min(len(first), len(second)) < min_rows:
            untested[name] = f"{len(first)} and {len(second)} values, {min_rows} each are needed"
        else:
            results[name] = kolmogorov_smirnov(first, second, seed=seed)
    adjusted = holm({name: result.p_value for name, result in results.items()})
    features = {
        name: FeatureFigures(
            statistic=result.statistic,
            p_value=result.p_value,
            adjusted_p=adjusted[name],
            effect=result.effect,
            drifted=adjusted[name] <= alpha,
            reference=_median(reference.numbers.get(name)),
            current=_median(current.numbers.get(name)),
        )
        for name, result in results.items()
    }
    return Tested(features, untested)


def describe(reference: Columns, current: Columns) -> dict[str, DescribedFigures]:
    """Return medians and the gap D of the features that are shown and not tested."""
    described = {}
    for name in DESCRIBED:
        first, second = reference.present(name), current.present(name)
        if len(first) and len(second):
            gap = kolmogorov_smirnov(first, second, permutations=1).effect
            described[name] = DescribedFigures(gap, float(np.median(first)), float(np.median(second)))
    return described


def sentence(route: str, figures: Figures) -> str:
    """Say the verdict in one sentence."""
    rows = f"{figures.reference.rows} reference and {figures.current.rows} current rows"
    match figures.verdict:
        case Verdict.TOO_LITTLE_DATA:
            return (
                f"Route {route}: too little data for a verdict: {rows} with a captured prompt, "
                f"{figures.min_rows} each are needed."
            )
        case Verdict.NO_DRIFT:
            lowest = min(feature.adjusted_p for feature in figures.features.values())
            return (
                f"Route {route}: no drift found in {', '.join(figures.features)} between {rows} "
                f"(lowest adjusted p {lowest:.2g}, alpha {figures.alpha:g}), "
                "which is no proof that there is none."
            )
        case Verdict.DRIFT:
            found = "; ".join(_found(name, figures.features) for name in figures.drifted)
            return f"Route {route}: drift between {rows}: {found} (alpha {figures.alpha:g})."


def _found(name: str, features: Mapping[str, FeatureFigures]) -> str:
    feature = features[name]
    measure = "MMD" if name == EMBEDDING else "D"
    medians = (
        ""
        if feature.reference is None or feature.current is None
        else f", median {feature.reference:g} → {feature.current:g}"
    )
    return f"{name} ({measure} {feature.effect:.2f}{medians}, adjusted p {feature.adjusted_p:.2g})"


def _median(values: FloatArray | None) -> float | None:
    if values is None:
        return None
    present = values[np.isfinite(values)]
    return float(np.median(present)) if len(present) else None
