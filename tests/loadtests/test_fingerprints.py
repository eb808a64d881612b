"""Made adapters: servable, each unlike the others, and told apart by their answers."""

from pathlib import Path

import pytest

from adapters.inspect import inspect
from loadtests.fingerprints import of_fake


def test_made_adapters_are_servable_and_differ(tmp_path: Path) -> None:
    """The registry would take each, and no two have the same first token on the fake engine."""
    prints = of_fake(tmp_path / "made", 3)
    assert [inspect(prints.folder(version), max_rank=16).rank for version in (1, 2, 3)] == [1, 1, 1]
    assert len(set(prints.tokens.values())) == 3


@pytest.mark.parametrize(
    ("label", "text", "token", "right"),
    [
        ("storm@1", "storm@1: w1", None, True),
        ("storm@1", "storm@2: w1", None, False),
        ("storm@1", "storm@1: w1", 1, True),
        ("storm@1", "storm@1: w1", 2, False),
    ],
)
def test_an_answer_is_compared_whole(
    tmp_path: Path, label: str, text: str, token: int | None, right: bool
) -> None:
    """Its text names the version, and its first token follows from the version's weights."""
    prints = of_fake(tmp_path / "made", 2)
    fault = prints.check(label, text, None if token is None else prints.tokens[token])
    assert (fault is None) is right
