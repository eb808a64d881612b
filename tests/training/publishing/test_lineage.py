"""The fingerprint of data, and the version of the code."""

import pytest

from training.data.rows import Example, Preference, Rated, Row, Text
from training.publishing.lineage import code_version, fingerprint, read_fingerprint

PROMPT = ({"role": "user", "content": "a"},)
EXAMPLE = Example(PROMPT, "b", 3, {"lang": "en"})


def test_the_fingerprint_of_examples_is_the_one_that_it_always_was() -> None:
    """Manifests that are published already can be compared with new ones."""
    assert fingerprint([EXAMPLE]) == "sha256:6db9b0fa883c366f6995d49ec6d0be8e4a06dbe3005f51e66c754ba50f7e0481"


@pytest.mark.parametrize(
    "row",
    [
        Example(PROMPT, "b", weight=2.0),
        Example(PROMPT, "c"),
        Preference(PROMPT, "b", "c"),
        Preference(PROMPT, "c", "b"),
        Rated(PROMPT, "b", liked=True),
        Rated(PROMPT, "b", liked=False),
        Text("a"),
    ],
)
def test_rows_that_train_otherwise_have_another_fingerprint(row: Row) -> None:
    """Every kind has one, and whatever is trained on changes it."""
    assert fingerprint([row]) != fingerprint([EXAMPLE])
    assert fingerprint([row, EXAMPLE]) == fingerprint([EXAMPLE, row])


def test_lines_and_further_columns_change_nothing() -> None:
    """They are not trained on."""
    assert fingerprint([Example(PROMPT, "b")]) == fingerprint([EXAMPLE])


def test_a_source_is_known_again_by_who_is_not_told_of_its_weights() -> None:
    """Which column holds them is said to training alone."""
    weighted = Example(PROMPT, "b", weight=2.0)
    assert read_fingerprint([weighted, Text("a")]) == read_fingerprint([EXAMPLE, Text("a")])
    assert read_fingerprint([EXAMPLE]) == fingerprint([EXAMPLE])


def test_the_code_version_covers_the_whole_package() -> None:
    """It is stable, and says which version of Turnout it is."""
    assert code_version() == code_version()
    assert "training sha256:" in code_version()
