"""Prompts that are nearly the same: MinHash finds candidates, and their sets are then compared exactly.

Two prompts are near duplicates when the Jaccard similarity of their sets of five-character pieces is at least
0.8. Lines and pieces that many prompts share are an instruction, not the prompt, and are left out first:
otherwise a long instruction would make every short question a copy of every other.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from training.data.normalise import normal_form

THRESHOLD = 0.8
PIECE_CHARS = 5
PERMUTATIONS, BANDS, BAND_ROWS = 128, 16, 8
"""Pairs of similarity 0.8 are found with probability 0.95, of 0.9 with 0.9999, of 0.5 with 0.06."""

MAX_CHARS = 20_000
MAX_COMPARED = 20
SHARED_ROWS, SHARED_LINES, SHARED_PIECES = 20, 0.02, 0.2
"""What more than 20 prompts share, and more than this part of them, is an instruction."""

SAMPLED = 2_000
"""So many prompts tell which pieces many share."""


@dataclass(frozen=True, slots=True)
class Near:
    """Two texts, by their places, and how similar they are (between 0 and 1)."""

    first: int
    second: int
    similarity: float


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What repeats what.

    `repeats` has the texts that say again what an earlier one says: the same class, and nearly the same text
    as the earlier one, which repeats nothing itself. `of` is for each text the number of its cluster: the
    place of the first text in it. Texts that repeat nothing share a cluster when they are nearly the same and
    of different classes, or when others connect them.
    """

    of: tuple[int, ...]
    repeats: Mapping[int, Near]


class DuplicatesUnavailable(Exception):
    """The library that finds candidates is not installed."""


def find(
    texts: Sequence[str], classes: Sequence[Hashable], threshold: float | None = THRESHOLD
) -> Duplicates:
    """Return which texts repeat others; without a threshold, up to case, width and white space only.

    A class is what is said to a text, such as its answer. Of each text the 20 likeliest candidates are
    compared, by their first 20,000 characters.

    Raises:
        DuplicatesUnavailable: there is a threshold, and `datasketch` is not installed.
    """
    index = None if threshold is None else _Index(texts)
    union = _Union(len(texts))
    first: dict[str, dict[Hashable, int]] = {}
    repeats: dict[int, Near] = {}
    for place, text in enumerate(texts):
        same = first.setdefault(normal_form(text), {})
        kept = same.get(classes[place])
        if kept is not None:
            repeats[place] = Near(kept, place, 1.0)
            continue
        near = [Near(other, place, 1.0) for other in list(same.values())[:1]]
        if index is not None and threshold is not None:
            near += index.near(place, threshold, classes)
            again = next((pair for pair in near if classes[pair.first] == classes[place]), None)
            if again is not None:
                repeats[place] = again
                continue
            index.add(place)
        same[classes[place]] = place
        for pair in near:
            union.join(pair.first, place)
    for place, pair in repeats.items():
        union.join(pair.first, place)
    return Duplicates(tuple(union.root(place) for place in range(len(texts))), repeats)


def across(
    texts: Sequence[str], others: Sequence[str], threshold: float | None = THRESHOLD
) -> dict[int, Near]:
    """Return by place which texts are copies or near duplicates of one of `others`, whose place is `second`.

    Raises:
        DuplicatesUnavailable: there is a threshold, and `datasketch` is not installed.
    """
    known = {normal_form(text): place for place, text in enumerate(others)}
    found = {
        place: Near(place, known[normal], 1.0)
        for place, text in enumerate(texts)
        if (normal := normal_form(text)) in known
    }
    if threshold is None or not others:
        return found
    index = _Index([*others, *texts])
    for place in range(len(others)):
        index.add(place)
    for place in range(len(texts)):
        near = () if place in found else index.near(len(others) + place, threshold)
        found.update((place, Near(place, pair.first, pair.similarity)) for pair in near[:1])
    return found


def jaccard(one: Any, other: Any) -> float:
    """Return the similarity of two sorted sets of pieces."""
    import numpy as np  # noqa: PLC0415 - the options are wanted without it

    shared = len(np.intersect1d(one, other, assume_unique=True))
    return shared / max(1, len(one) + len(other) - shared)


def _all_pieces(texts: Sequence[str]) -> list[Any]:
    """Return each text's set of pieces, without what many texts share; of a text that has no other, all."""
    split = [normal_lines(text) for text in texts]
    distinct = {tuple(lines): None for lines in split}
    counts = Counter(line for lines in distinct for line in set(lines))
    often = max(SHARED_ROWS, SHARED_LINES * len(distinct))
    found = []
    for lines in split:
        own = [line for line in lines if counts[line] <= often]
        found.append(_pieces("\n".join(own or lines)[:MAX_CHARS]))
    sample = dict(zip(map(tuple, split), found, strict=True))
    frequent = _frequent(list(sample.values()))
    return [_rest(pieces, frequent) for pieces in found]


def _frequent(found: Sequence[Any]) -> Any:
    """Return the pieces that many texts share, sorted, as a sample of them tells."""
    import numpy as np  # noqa: PLC0415 - the options are wanted without it

    if not found:
        return np.empty(0, dtype=np.uint32)
    sample = found[:: max(1, len(found) // SAMPLED)]
    pieces, counts = np.unique(np.concatenate(sample), return_counts=True)
    return pieces[counts > max(SHARED_ROWS, SHARED_PIECES * len(sample))]


def _rest(pieces: Any, frequent: Any) -> Any:
    import numpy as np  # noqa: PLC0415

    if not len(frequent):
        return pieces
    at = np.minimum(np.searchsorted(frequent, pieces), len(frequent) - 1)
    own = pieces[frequent[at] != pieces]
    return own if len(own) else pieces


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
    # numpy's own `unique` takes ten times as long for so few.
    pieces = np.sort((mixed >> np.uint64(32)).astype(np.uint32))
    return pieces[np.concatenate(([True], pieces[1:] != pieces[:-1]))]


class _Index:
    """Texts by their sketches: those that were added, and which of them another one is near."""

    def __init__(self, texts: Sequence[str]) -> None:
        try:
            from datasketch import MinHash, MinHashLSH  # noqa: PLC0415 - brings scipy: only when used
        except ImportError as error:
            raise DuplicatesUnavailable("datasketch is not installed; install turnout[training]") from error
        self._pieces = _all_pieces(texts)
        self._blank = MinHash(num_perm=PERMUTATIONS, hashfunc=int)
        self._buckets = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, BAND_ROWS))
        self._sketches: dict[int, Any] = {}

    def add(self, place: int) -> None:
        """Make a text one that others may be near."""
        self._buckets.insert(place, self._sketch(place), check_duplication=False)

    def near(self, place: int, threshold: float, classes: Sequence[Hashable] = ()) -> list[Near]:
        """Return the texts that were added and are near one, likeliest first; none after one of its class."""
        import numpy as np  # noqa: PLC0415 - the options are wanted without it

        sketch = self._sketch(place)
        candidates = sorted(self._buckets.query(sketch))
        if not candidates:
            return []
        alike = [
            -np.count_nonzero(self._sketches[each].hashvalues == sketch.hashvalues) for each in candidates
        ]
        found: list[Near] = []
        for at in np.argsort(alike, kind="stable")[:MAX_COMPARED]:
            other = candidates[at]
            similarity = jaccard(self._pieces[place], self._pieces[other])
            if similarity >= threshold:
                found.append(Near(other, place, similarity))
                if classes and classes[other] == classes[place]:
                    break
        return found

    def _sketch(self, place: int) -> Any:
        if place not in self._sketches:
            self._sketches[place] = self._blank.copy()
            self._sketches[place].update_batch(self._pieces[place].tolist())
        return self._sketches[place]


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
