"""Prompts that are nearly the same: MinHash finds candidates, and their sets are then compared exactly.

Two prompts are near duplicates when the Jaccard similarity of their sets of five-character pieces is at least
0.8. Lines that many prompts share word for word are an instruction, not the prompt, and are left out first:
otherwise a long instruction would make every short question a copy of every other.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from training.data.normalise import normal_form

THRESHOLD = 0.8
PIECE_CHARS = 5
PERMUTATIONS, BANDS, BAND_ROWS = 128, 16, 8
"""Pairs of similarity 0.8 are found with probability 0.95, of 0.9 with 0.9999, of 0.5 with 0.06."""

MAX_CHARS = 20_000
MAX_COMPARED = 20
SHARED_ROWS, SHARED_PART = 20, 0.02
"""A line is an instruction when more than this many prompts have it, and more than this part of them."""


@dataclass(frozen=True, slots=True)
class Near:
    """Two texts, by their places, and how similar they are (between 0 and 1)."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Clusters:
    """For each text the number of its cluster, which is the place of the cluster's first text.

    `near` has for each text that joined another one the pair that they were found by. `compared`: whether near
    duplicates were looked for, or copies only.
    """

    of: tuple[int, ...]
    near: tuple[Near, ...]
    compared: bool = True


class DuplicatesUnavailable(Exception):
    """The library that finds candidates is not installed."""


def copies(texts: Sequence[str]) -> Clusters:
    """Return the clusters of texts that differ in case, width and white space only."""
    first: dict[str, int] = {}
    return Clusters(
        tuple(first.setdefault(normal_form(text), place) for place, text in enumerate(texts)), (), False
    )


def clusters(texts: Sequence[str], threshold: float = THRESHOLD) -> Clusters:
    """Return the clusters of near duplicates: connected as long as each is similar to some other in it.

    Of one text the 20 likeliest candidates in clusters of their own are compared, by the first 20,000
    characters.

    Raises:
        DuplicatesUnavailable: `datasketch` is not installed.
    """
    same = copies(texts).of
    distinct = [place for place, first in enumerate(same) if place == first]
    union = _Union(len(texts))
    for place, first in enumerate(same):
        union.join(first, place)
    pieces = dict(zip(distinct, _all_pieces([texts[place] for place in distinct]), strict=True))
    near: list[Near] = []
    for place, candidates in _candidates(pieces):
        compared: set[int] = set()
        for other in candidates:
            root = union.root(other)
            if root == union.root(place) or root in compared:
                continue
            if len(compared) == MAX_COMPARED:
                break
            compared.add(root)
            similarity = jaccard(pieces[place], pieces[other])
            if similarity >= threshold:
                near.append(Near(other, place, similarity))
                union.join(other, place)
    return Clusters(tuple(union.root(place) for place in range(len(texts))), tuple(near))


def across(texts: Sequence[str], others: Sequence[str], threshold: float = THRESHOLD) -> dict[int, Near]:
    """Return by place which texts are copies or near duplicates of one of `others` (`second` is its place)."""
    known = {normal_form(text): place for place, text in enumerate(others)}
    found = {
        place: Near(place, known[normal], 1.0)
        for place, text in enumerate(texts)
        if (normal := normal_form(text)) in known
    }
    together = [*others, *texts]
    pieces = dict(enumerate(_all_pieces(together)))
    for place, candidates in _candidates(pieces, wanted=len(others)):
        mine = place - len(others)
        if mine in found:
            continue
        for other in candidates[:MAX_COMPARED]:
            similarity = jaccard(pieces[place], pieces[other])
            if similarity >= threshold:
                found[mine] = Near(mine, other, similarity)
                break
    return found


def jaccard(one: Any, other: Any) -> float:
    """Return the similarity of two sorted sets of pieces."""
    import numpy as np  # noqa: PLC0415 - the options are wanted without it

    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / max(1, len(one) + len(other) - shared)


def _all_pieces(texts: Sequence[str]) -> list[Any]:
    """Return each text's set of pieces, without the lines that many texts share."""
    split = [normal_lines(text) for text in texts]
    counts = Counter(line for lines in split for line in set(lines))
    often = max(SHARED_ROWS, SHARED_PART * len(texts))
    found = []
    for lines in split:
        own = [line for line in lines if counts[line] <= often]
        found.append(_pieces("\n".join(own or lines)[:MAX_CHARS]))
    return found


def normal_lines(text: str) -> list[str]:
    """Return the normal forms of a text's lines that are not empty."""
    return [normal for line in text.splitlines() if (normal := normal_form(line))]


def _pieces(text: str) -> Any:
    """Return the hashes of all runs of five characters, each once, sorted; of a shorter text one hash."""
    import numpy as np  # noqa: PLC0415

    codes = np.frombuffer(text.encode("utf-32-le"), dtype="<u4").astype(np.uint64)
    if len(codes) < PIECE_CHARS:
        codes = np.pad(codes, (0, PIECE_CHARS - len(codes)))
    runs = len(codes) - PIECE_CHARS + 1
    mixed = np.zeros(runs, dtype=np.uint64)
    for offset in range(PIECE_CHARS):
        mixed = mixed * np.uint64(0x100000001B3) + codes[offset : offset + runs]
    # The finaliser of SplitMix64 spreads neighbouring runs over all bits; it wraps on purpose.
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.unique((mixed >> np.uint64(32)).astype(np.uint32))


def _candidates(pieces: dict[int, Any], *, wanted: int = 0) -> Any:
    """Yield each place from `wanted` on with the earlier places that are likely near it, the likeliest first.

    With `wanted` the places before it are candidates, and no others.
    """
    try:
        from datasketch import MinHash, MinHashLSH  # noqa: PLC0415 - brings scipy: only when used
    except ImportError as error:
        raise DuplicatesUnavailable("datasketch is not installed; install turnout[training]") from error
    import numpy as np  # noqa: PLC0415

    blank = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
    index = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, BAND_ROWS))
    signatures: dict[int, Any] = {}
    for place, own in pieces.items():
        sketch = blank.copy()
        sketch.update_batch(own.tolist())
        if place >= wanted:
            found = index.query(sketch)
            if found:
                alike = np.array(
                    [np.count_nonzero(signatures[other] == sketch.hashvalues) for other in found]
                )
                yield place, [found[at] for at in np.argsort(-alike, kind="stable")]
        if not wanted or place < wanted:
            signatures[place] = sketch.hashvalues
            index.insert(place, sketch)


class _Union:
    """Sets that are joined; the root of each is its first member."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, place: int) -> int:
        while self._parent[place] != place:
            self._parent[place] = self._parent[self._parent[place]]
            place = self._parent[place]
        return place

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self._parent[second] = first


def members(of: Sequence[int]) -> dict[int, list[int]]:
    """Return the places of each cluster's texts."""
    found: dict[int, list[int]] = defaultdict(list)
    for place, cluster in enumerate(of):
        found[cluster].append(place)
    return dict(found)
