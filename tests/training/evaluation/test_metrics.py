"""How answers are judged."""

import pytest

from training.evaluation.metrics import (
    METRICS,
    entity_f1,
    exact_match,
    labels_of,
    named_label,
    token_f1,
    valid_json,
)


@pytest.mark.parametrize(
    ("answer", "wanted", "value"),
    [
        ("Positive.", "positive", 1),
        (" not  spam ", "not spam", 1),
        ("positive!", "positive", 0),
        ("", "x", 0),
    ],
)
def test_exact_match_forgives_case_white_space_and_a_full_stop(answer: str, wanted: str, value: int) -> None:
    """Nothing else is forgiven."""
    assert exact_match(answer, wanted).numerator == value


@pytest.mark.parametrize(
    ("answer", "wanted", "value"),
    [("a b", "a b", 1.0), ("a b c d", "a b", 2 / 3), ("x", "a", 0.0), ("", "", 1.0), ("a a", "a", 2 / 3)],
)
def test_token_f1_is_the_overlap_of_words(answer: str, wanted: str, value: float) -> None:
    """Words count as often as they occur in both."""
    assert token_f1(answer, wanted).numerator == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ('{"person": ["Ann"], "location": ["Rome"]}', (4, 4)),
        ('Sure! {"person": ["ann"], "location": []} Done.', (2, 3)),
        ('{"person": "Ann"}', (2, 3)),
        ('{"location": ["Ann"]}', (0, 3)),
        ("no JSON at all", (0, 2)),
        ('{"person": [1, null, ""]}', (0, 2)),
        ("{" * 5000 + "}" * 5000, (0, 2)),
    ],
)
def test_entity_f1_counts_pairs_of_kind_and_name(answer: str, counts: tuple[float, float]) -> None:
    """Prose around the object costs nothing; a name under the wrong kind does."""
    found = entity_f1(answer, '{"person": ["Ann"], "location": ["Rome"]}')
    assert (found.numerator, found.denominator) == counts


@pytest.mark.parametrize(
    ("answer", "value"),
    [('{"a": [], "b": [1]}', 1), ('{"a": []}', 0), ('x {"a": [], "b": []}', 0), ("[]", 0)],
)
def test_valid_json_wants_the_whole_answer_and_the_same_keys(answer: str, value: int) -> None:
    """A program that reads the answer must not have to search in it."""
    assert valid_json(answer, '{"a": [], "b": []}').numerator == value


def test_labels_are_recognised_by_being_few_short_and_frequent() -> None:
    """Free answers are not taken for labels."""
    assert labels_of(["no", "yes"] * 20) == ("no", "yes")
    assert labels_of(["yes"] * 20) == ()
    assert labels_of([f"answer {number}" for number in range(40)]) == ()
    assert labels_of(["x" * 100, "y"] * 20) == ()


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("It is spam, not news.", "spam"),
        ("This is not spam.", "not spam"),
        ("I'd say NEWS", "news"),
        ("spammy newsletter", ""),
        ("", ""),
    ],
)
def test_the_first_label_that_an_answer_names_is_found(answer: str, label: str) -> None:
    """Whole words only, and the longer of two labels that start at one place."""
    assert named_label(answer, ["spam", "not spam", "news"]) == label


def test_the_names_of_metrics_are_frozen() -> None:
    """Manifests and cards of published adapters name them."""
    assert set(METRICS) == {"exact_match", "accuracy", "token_f1", "entity_f1", "valid_json"}
