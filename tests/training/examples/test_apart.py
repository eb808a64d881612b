"""What examples are judged by, beside what they were trained on."""

from training.data.rows import Example
from training.data.splits import Shares, split
from training.examples.apart import apart

WORDS = ("river", "paper", "engine", "garden", "window", "copper", "letter", "station", "harbour", "winter")


def sentence(number: int) -> str:
    """Return a sentence of ten words that shares few with the others."""
    return " ".join(f"{word}{(number * (place + 3)) % 997}" for place, word in enumerate(WORDS))


def rows() -> list[Example]:
    """Two hundred sentences, and for every tenth one that says nearly the same."""
    texts = [sentence(number) for number in range(200)]
    texts += [f"{text} again" for text in texts[::10]]
    return [Example(({"role": "user", "content": text},), "yes") for text in texts]


def test_near_copies_of_other_rows_judge_nothing() -> None:
    """Later held-out rows take their places; what is trained on and validated by stays."""
    shares = Shares(test=0.4, max_test=50)
    plain, found = split(rows(), shares), apart(rows(), shares)
    assert (found.train, found.validation) == (plain.train, plain.validation)
    others = {row.key.removesuffix(" again") for row in (*found.train, *found.validation)}
    assert any(row.key.removesuffix(" again") in others for row in plain.test)
    assert not any(row.key.removesuffix(" again") in others for row in found.test)
    assert len(found.test) == 50
    kept = [row for row in plain.test if row in found.test]
    assert kept == list(found.test)[: len(kept)]
