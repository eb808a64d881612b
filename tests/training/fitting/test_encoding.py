"""Rows of every kind as token ids, with a tokenizer of one token a character."""

from typing import Any

import pytest

from tests.training.fitting.test_template import END, Characters, text
from training.config import TrainConfig
from training.data.rows import DataError, Example, Preference, Rated, Row, Text
from training.fitting.encoding import EncodedPair, EncodedRating, EncodedText, cut, encode
from training.fitting.template import Encoded, Template

ASKED = ({"role": "user", "content": "hi"},)
PROMPT = f"<system>S{END}\n<user>hi{END}\n<assistant>"


class WithVocabulary(Characters):
    """The same, with a token that ends texts."""

    def get_vocab(self) -> dict[str, int]:
        """Return the names of two tokens."""
        return {"<|endoftext|>": 7, END: ord(END)}


@pytest.fixture
def template() -> Template:
    """A template of one token a character."""
    return Template(WithVocabulary(), [ord(END)])


def encoded(template: Template, row: Row, method: Any, **changes: Any) -> tuple[list[Any], int]:
    """Encode one row for a method."""
    return encode(template, [row], TrainConfig(method=method, **changes), max_position=64)


def test_an_example_keeps_its_weight(template: Template) -> None:
    """Prompt and answer are apart, the answer ends its turn, and the row's share goes with it."""
    (row,), dropped = encoded(template, Example(ASKED, "ho", weight=2.5), "sft")
    assert isinstance(row, Encoded)
    assert (text(row.prompt), text(row.completion), row.weight, dropped) == (PROMPT, f"ho{END}", 2.5, 0)


def test_both_answers_of_a_pair_end_their_turn(template: Template) -> None:
    """The template is applied once, to the prompt; its length is that of the longer answer."""
    (row,), _ = encoded(template, Preference(ASKED, "good", "no"), "dpo")
    assert isinstance(row, EncodedPair)
    assert (text(row.prompt), text(row.chosen), text(row.rejected)) == (PROMPT, f"good{END}", f"no{END}")
    assert len(row) == len(PROMPT) + 5


def test_a_rated_answer_keeps_whether_it_was_liked(template: Template) -> None:
    """The answer ends its turn like any other."""
    (row,), _ = encoded(template, Rated(ASKED, "ho", liked=False), "kto")
    assert isinstance(row, EncodedRating)
    assert (text(row.completion), row.liked) == (f"ho{END}", False)


def test_a_text_is_cut_and_ends_with_the_token_of_pre_training(template: Template) -> None:
    """No chat template is put around it, and nothing but a last lone token is lost."""
    rows, dropped = encoded(template, Text("abcdefghij"), "domain", max_tokens=8)
    assert rows == [EncodedText([ord(letter) for letter in "abcdefgh"]), EncodedText([ord("i"), ord("j"), 7])]
    assert dropped == 0
    assert cut([1, 2, 3, 4, 5], 4) == [[1, 2, 3, 4]]


def test_an_example_that_is_too_long_is_left_out_and_counted(template: Template) -> None:
    """A cut answer would teach to stop anywhere; the model's positions are a bound too."""
    assert encoded(template, Example(ASKED, "ho"), "sft", max_tokens=16) == ([], 1)
    assert encoded(template, Example(ASKED, "h" * 64), "sft") == ([], 1)


@pytest.mark.parametrize(
    ("row", "method", "said"),
    [
        (Text("x", line=3), "sft", "trains on examples, and line 3 is one of the texts"),
        (
            Example(ASKED, "ho", line=4),
            "dpo",
            "trains on preference pairs, and line 4 is one of the examples",
        ),
    ],
)
def test_rows_of_another_kind_are_refused(template: Template, row: Row, method: Any, said: str) -> None:
    """The line is named, with what it is and what the method wants."""
    with pytest.raises(DataError, match=said):
        encoded(template, row, method)


def test_without_such_a_token_a_text_ends_like_a_turn() -> None:
    """Better some end than none."""

    class Without(Characters):
        def get_vocab(self) -> dict[str, int]:
            return {}

    assert Template(Without(), [ord(END)]).end_of_text_id == ord(END)
