"""Which figures give which verdict, and in which words."""

import numpy as np
import orjson
import pytest

from monitoring.features import Columns
from monitoring.feedback import FeedbackFigures
from monitoring.mmd import MmdResult
from monitoring.verdict import (
    FeatureFigures,
    Figures,
    Verdict,
    WindowFigures,
    describe,
    judge_features,
    sentence,
)

_WINDOW = WindowFigures(
    rows=100, first_at=1.0, last_at=2.0, adapters={"support@1": 100}, subjects=90, rows_with_subject=100
)


def _columns(count: int, *, prompt: float = 100, answer: float = 80, seed: int = 0) -> Columns:
    generator = np.random.default_rng(seed)
    numbers = {
        "prompt_chars": generator.normal(prompt, 10, count).round(),
        "answer_chars": generator.normal(answer, 10, count).round(),
        "prompt_tokens": np.full(count, np.nan),
        "answer_tokens": generator.normal(20, 3, count),
        "latency_ms": generator.gamma(2, 100, count),
        "ttft_ms": generator.gamma(2, 10, count),
    }
    return Columns(["id"] * count, numbers, ["stop"] * count, ["text"] * count)


def _mmd(p_value: float) -> MmdResult:
    return MmdResult(0.01, p_value, 0.1, 1.0, np.zeros(100), np.zeros(100))


def _feature(*, drifted: bool) -> FeatureFigures:
    return FeatureFigures(0.3, 0.0005, 0.001, 0.3, drifted, 100.0, 130.0)


@pytest.mark.parametrize(
    ("current", "embedding_p", "drifted"),
    [
        ({}, None, []),
        ({}, 0.5, []),
        ({"prompt": 130}, None, ["prompt_chars"]),
        ({"answer": 60}, 0.5, ["answer_chars"]),
        ({"prompt": 130, "answer": 60}, 0.0005, ["embedding", "prompt_chars", "answer_chars"]),
        ({}, 0.003, ["embedding"]),
        ({}, 0.004, []),
    ],
)
def test_features_that_drifted(
    current: dict[str, float], embedding_p: float | None, drifted: list[str]
) -> None:
    """A feature drifted when its p-value, corrected for all features tested, is at most alpha."""
    mmd = None if embedding_p is None else _mmd(embedding_p)
    tested = judge_features(
        _columns(100),
        _columns(100, seed=1, **current),
        mmd,
        alpha=0.01,
        min_rows=50,  # type: ignore[arg-type]
    )
    assert [name for name, figures in tested.features.items() if figures.drifted] == drifted
    assert not tested.untested


def test_feature_with_too_few_values_is_not_tested() -> None:
    """Answers that most rows lack are left out of the family and named with the reason."""
    reference, current = _columns(100), _columns(100, seed=1)
    current.numbers["answer_chars"][:60] = np.nan
    tested = judge_features(reference, current, None, alpha=0.01, min_rows=50)
    assert list(tested.features) == ["prompt_chars"]
    assert "40 values" in tested.untested["answer_chars"]


def test_described_features_have_values_and_no_test() -> None:
    """Latency is shown; a column that one window lacks is left out."""
    described = describe(_columns(100), _columns(100, seed=1))
    assert list(described) == ["answer_tokens", "latency_ms", "ttft_ms"]


@pytest.mark.parametrize(
    ("features", "verdict", "words"),
    [
        ({}, Verdict.TOO_LITTLE_DATA, "50 each are needed"),
        ({"prompt_chars": False}, Verdict.NO_DRIFT, "no proof that there is none"),
        ({"embedding": False, "prompt_chars": True}, Verdict.DRIFT, "prompt_chars (D 0.30, median 100 → 130"),
    ],
)
def test_verdict_and_sentence(features: dict[str, bool], verdict: Verdict, words: str) -> None:
    """One drifted feature is drift; nothing tested is too little data; the sentence says why."""
    figures = Figures(
        reference=_WINDOW,
        current=_WINDOW,
        rule="halves",
        alpha=0.01,
        min_rows=50,
        features={name: _feature(drifted=drifted) for name, drifted in features.items()},
    )
    assert figures.verdict is verdict
    assert words in sentence("support", figures)
    assert sentence("support", figures).startswith("Route support: ")


def test_document_has_the_stored_form() -> None:
    """The names that the drift table stores and the metrics export are frozen."""
    figures = Figures(
        reference=_WINDOW,
        current=_WINDOW,
        rule="halves",
        alpha=0.01,
        min_rows=50,
        features={"embedding": _feature(drifted=True)},
        feedback=FeedbackFigures(),
    )
    document = orjson.loads(orjson.dumps(figures.document()))
    assert set(document) == {
        "rows", "windows", "features", "described", "feedback", "alpha", "min_rows", "permutations",
        "bandwidth", "notes",
    }  # fmt: skip
    assert document["rows"] == {"reference": 100, "current": 100}
    assert set(document["features"]["embedding"]) == {
        "statistic", "p_value", "adjusted_p", "effect", "drifted", "reference", "current",
    }  # fmt: skip
    assert document["feedback"] == {"verdict": "too_little_data", "metrics": {}}
