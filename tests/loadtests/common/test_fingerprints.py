"""Made adapters: servable, each unlike the others, and told apart by their answers."""

from pathlib import Path

import pytest

from adapters.inspect import inspect
from adapters.registry import digest_of
from loadtests.common.fingerprints import certain_part, of_fake
from loadtests.common.made_adapters import make


def test_made_adapters_are_servable_and_differ(tmp_path: Path) -> None:
    """The registry would take each, and no two have the same first token on the fake engine."""
    prints = of_fake(tmp_path / "made", 3)
    assert [inspect(prints.folder(version), max_rank=16).rank for version in (1, 2, 3)] == [1, 1, 1]
    assert len(set(prints.tokens.values())) == 3


def test_a_note_makes_another_digest_of_the_same_weights(tmp_path: Path) -> None:
    """Versions may answer alike and still be different versions; the note changes nothing else."""
    plain, noted = (make(tmp_path / str(note), 1, base_name="b", note=note) for note in (None, "2"))
    weights = [(folder / "adapter_model.safetensors").read_bytes() for folder in (plain, noted)]
    assert digest_of(plain) != digest_of(noted)
    assert weights[0][-100:] == weights[1][-100:]
    assert inspect(noted, max_rank=16).rank == 1


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


@pytest.mark.parametrize(
    ("text", "tokens", "gaps", "certain"),
    [
        ("abc", ["a", "b", "c"], [2.0, 1.5, 9.0], "abc"),
        ("abc", ["a", "b", "c"], [2.0, 1.4, 9.0], "a"),
        ("abc", ["a", "b", "c"], [0.1, 2.0, 9.0], ""),
        ("\N{SNOWMAN}c", ["\N{REPLACEMENT CHARACTER}", "c"], [2.0, 2.0], ""),
    ],
)
def test_an_answer_counts_as_far_as_it_does_not_hesitate(
    text: str, tokens: list[str], gaps: list[float], certain: str
) -> None:
    """Up to the first token that another one could overtake; not where text and tokens differ."""
    tops = [{token: -0.1, "other": -0.1 - gap} for token, gap in zip(tokens, gaps, strict=True)]
    assert certain_part({"text": text, "logprobs": {"tokens": tokens, "top_logprobs": tops}}) == certain
