"""Figures of answers: classes, texts, calibration, loss."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.data.rows import Example
from training.evaluation.calibration import (
    calibration_figures,
    chances,
    if_calibrated,
    reliability,
    sureness,
)
from training.evaluation.classes import class_figures
from training.evaluation.figures import MEASURES, Figure, mean, measure_of, perplexities, pooled
from training.evaluation.judged import CHOOSABLE, Judged, figures_of, task_of
from training.evaluation.texts import text_figures

LABELS = ["a", "b", "c"]
labels = st.sampled_from(LABELS)
said = st.sampled_from([*LABELS, "what?"])


def by_name(figures: list[Figure]) -> dict[str, float]:
    """Return the values of figures."""
    return {figure.metric: figure.value for figure in figures}


@pytest.mark.slow
@given(st.lists(st.tuples(said, labels), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_class_figures_are_those_of_scikit_learn(pairs: list[tuple[str, str]]) -> None:
    """Precision, recall and F1, macro over the classes that occur, and of each class."""
    from sklearn.metrics import precision_recall_fscore_support

    answers, wanted = [a for a, _ in pairs], [b for _, b in pairs]
    there = [label for label in LABELS if label in wanted or label in answers]
    found = by_name(class_figures(answers, wanted, LABELS))
    for average, suffix in ((("macro"), ""), *((None, f":{label}") for label in there)):
        known = precision_recall_fscore_support(
            wanted, answers, labels=there, average=average, zero_division=0
        )
        place = there.index(suffix[1:]) if suffix else None
        for kind, value in zip(("precision", "recall", "f1"), known, strict=False):
            expected = float(value if place is None else value[place])
            assert found[f"{kind}{suffix}"] == pytest.approx(expected)


def test_case_and_a_full_stop_do_not_make_another_class() -> None:
    """Answers are read as exact match reads them."""
    assert by_name(class_figures(["A.", " b"], ["a", "b"], LABELS))["f1"] == 1.0


@given(
    st.lists(
        st.tuples(st.text("ab cd.", max_size=20), st.text("ab cd.", min_size=1, max_size=20)),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=25, deadline=None)
def test_text_figures_are_those_of_their_libraries(pairs: list[tuple[str, str]]) -> None:
    """ROUGE is rouge-score's mean over rows, BLEU and chrF are sacrebleu's of the whole set."""
    sacrebleu = pytest.importorskip("sacrebleu")
    scorer = pytest.importorskip("rouge_score.rouge_scorer")
    answers, wanted = [a for a, _ in pairs], [b if b.strip() else "a" for _, b in pairs]
    found = by_name(text_figures(answers, wanted))
    assert all(0 <= value <= 1 + 1e-9 for value in found.values())
    assert found["bleu"] == pytest.approx(sacrebleu.corpus_bleu(answers, [wanted], force=True).score / 100)
    assert found["chrf"] == pytest.approx(sacrebleu.corpus_chrf(answers, [wanted]).score / 100)
    rouge = scorer.RougeScorer(["rougeL"], use_stemmer=True)
    rows = [
        rouge.score(right, answer)["rougeL"].fmeasure for answer, right in zip(answers, wanted, strict=True)
    ]
    assert found["rougeL"] == pytest.approx(sum(rows) / len(rows))


def test_the_right_answers_are_perfect() -> None:
    """Every figure of an answer that is the wanted one is 1."""
    pytest.importorskip("sacrebleu")
    wanted = ["the cat sat on the mat today", "another sentence of some words here"]
    assert all(value == pytest.approx(1) for value in by_name(text_figures(wanted, wanted)).values())


def test_loss_is_nats_a_token_and_perplexity_its_power() -> None:
    """Long answers count for what they are: tokens, not rows."""
    loss, perplexity = perplexities(np.array([2.0, 4.0]), np.array([1.0, 5.0]))
    assert loss.value == pytest.approx(1.0)
    assert perplexity.value == pytest.approx(math.e)


def test_probabilities_come_from_log_likelihoods_of_any_size() -> None:
    """They sum to one, and very unlikely labels do not make them undefined."""
    found = chances(np.array([[-1000.0, -1001.0], [0.0, -np.inf]]))
    assert found.sum(axis=1) == pytest.approx([1, 1])
    assert found[0, 0] == pytest.approx(1 / (1 + math.exp(-1)))
    assert found[1].tolist() == [1, 0]


def test_the_calibration_error_of_a_known_example() -> None:
    """Four rows at 0.8 of which two are right, and two at 0.95 that are right: 1.3 / 6."""
    shares = np.array([[0.8, 0.2]] * 4 + [[0.95, 0.05]] * 2)
    wanted = ["a", "a", "b", "b", "a", "a"]
    found = by_name(calibration_figures(shares, wanted, ["a", "b"]))
    assert found["ece"] == pytest.approx((4 * 0.3 + 2 * 0.05) / 6)
    assert found["brier"] == pytest.approx((2 * 0.08 + 2 * 1.28 + 2 * 0.005) / 6)
    bins = reliability(*sureness(shares, wanted, ["a", "b"]))
    assert [(each.rows, each.accuracy) for each in bins] == [(4, 0.5), (2, 1.0)]


def test_a_calibrated_system_shows_what_it_is_said_to_show() -> None:
    """Rows that are right as often as they are sure fall within the stated bound in 95 of 100."""
    generator = np.random.default_rng(1)
    confidence = generator.uniform(0.5, 1, size=300)
    expected = if_calibrated(confidence, seed=1)
    inside = 0
    for _ in range(200):
        right = generator.random(300) < confidence
        shares = np.stack([confidence, 1 - confidence], axis=1)
        wanted = ["a" if each else "b" for each in right]
        inside += by_name(calibration_figures(shares, wanted, ["a", "b"]))["ece"] <= expected.high
    assert 0.91 <= inside / 200 <= 0.99
    assert expected.mean > 0.01


@given(st.lists(st.tuples(st.floats(0, 1), labels), min_size=1, max_size=30))
@settings(max_examples=40, deadline=None)
def test_calibration_figures_are_bounded(rows: list[tuple[float, str]]) -> None:
    """The error is between 0 and 1, the Brier score between 0 and 2."""
    shares = np.array([[chance, (1 - chance) / 2, (1 - chance) / 2] for chance, _ in rows])
    found = by_name(calibration_figures(shares, [label for _, label in rows], LABELS))
    assert 0 <= found["ece"] <= 1 + 1e-9
    assert 0 <= found["brier"] <= 2 + 1e-9


def test_draws_are_pooled() -> None:
    """Two draws of a system give the mean of a mean, and the F1 of the pooled counts."""
    assert pooled([mean("x", [1, 0]), mean("x", [1, 1])]).value == pytest.approx(0.75)
    first = class_figures(["a", "a"], ["a", "b"], ["a", "b"])[2]
    second = class_figures(["a", "b"], ["a", "b"], ["a", "b"])[2]
    assert pooled([first, second]).value == pytest.approx((4 / 5 + 2 / 3) / 2)
    with pytest.raises(ValueError, match="one metric"):
        pooled([mean("x", [1]), mean("y", [1])])


def rows(*pairs: tuple[str, str]) -> list[Example]:
    """Return rows of prompts and answers."""
    return [Example(({"role": "user", "content": prompt},), answer) for prompt, answer in pairs]


@pytest.mark.parametrize(
    ("wanted", "first"),
    [
        (["yes", "no"] * 10, "accuracy"),
        ([f'{{"names": ["x{number}"]}}' for number in range(9)], "entity_f1"),
        ([f"[{number}]" for number in range(9)], "exact_match"),
        ([f"a sentence, number {number}" for number in range(9)], "token_f1"),
    ],
)
def test_the_task_is_recognised_by_its_answers(wanted: list[str], first: str) -> None:
    """Labels, JSON with entities, other JSON, and free answers."""
    task = task_of(rows(*((str(number), answer) for number, answer in enumerate(wanted))), [])
    assert task.primary == first
    assert bool(task.labels) == (first == "accuracy")


@pytest.mark.parametrize(
    ("metrics", "message"), [(["x"], "not known"), (["f1"], "labels"), (["schema"], "--schema")]
)
def test_metrics_that_do_not_fit_are_refused(metrics: list[str], message: str) -> None:
    """Before anything is computed."""
    with pytest.raises(ValueError, match=message):
        task_of(rows(("a", "one thing"), ("b", "another")), [], metrics)


def test_what_is_known_of_a_system_is_reported() -> None:
    """Labels with probabilities and likelihoods have all figures; a bare answer has those of answers."""
    some = rows(*((str(number), "ab"[number % 2]) for number in range(20)))
    task = task_of(some, [])
    bare = Judged("x", "baseline", (task.wanted,))
    whole = Judged(
        "y",
        "version",
        (task.wanted,),
        nats=np.ones(20),
        tokens=np.ones(20),
        chances=np.array([[0.9, 0.1], [0.1, 0.9]] * 10),
    )
    assert {"accuracy", "precision", "recall", "f1", "f1:a", "f1:b", "answer_chars"} <= set(
        figures_of(bare, task)
    )
    assert set(figures_of(whole, task)) - set(figures_of(bare, task)) == {
        "ece",
        "brier",
        "loss",
        "perplexity",
    }
    assert figures_of(whole, task)["accuracy"].binary


def test_every_metric_has_a_title() -> None:
    """Whatever can be chosen or is always reported can be named in a report."""
    assert set(CHOOSABLE) <= set(MEASURES)
    assert measure_of("f1:spam").title == "F1 of spam"
    assert measure_of("ece").better == "lower"
