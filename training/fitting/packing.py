"""How rows are drawn and put together: shares of a mixture, and bins of texts that fill a row."""

import bisect
import random
from collections.abc import Sequence


def drawn(weights: Sequence[float], count: int, *, seed: int) -> list[int]:
    """Return `count` numbers of rows, each as often as its weight's share says, in random order.

    Systematic sampling: a row whose share is 2.3 draws comes two or three times, never once or four times.
    With equal weights and as many draws as rows, each comes once.
    """
    total = sum(weights)
    step = total / count
    place = random.Random(seed).random() * step  # noqa: S311 - a reproducible order, no secret
    found: list[int] = []
    edge = 0.0
    for number, weight in enumerate(weights):
        edge += weight
        while place < edge and len(found) < count:
            found.append(number)
            place += step
    found += [len(weights) - 1] * (count - len(found))  # rounding at the very end
    random.Random(seed + 1).shuffle(found)  # noqa: S311 - the same
    return found


def bins(lengths: Sequence[int], room: int) -> list[list[int]]:
    """Return the numbers of the pieces that share a row of at most `room` tokens: best fit, longest first.

    Every piece is in one bin; one longer than `room` has a bin of its own. Best-fit decreasing uses at most
    11/9 of the fewest possible bins, and one more (Johnson, 1974).
    """
    free: list[tuple[int, int]] = []  # (tokens left, bin), sorted
    packed: list[list[int]] = []
    for number in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        length = lengths[number]
        place = bisect.bisect_left(free, (length, -1))
        if place == len(free):
            packed.append([number])
            left, where = room - length, len(packed) - 1
        else:
            left, where = free.pop(place)
            packed[where].append(number)
            left -= length
        if left > 0:
            bisect.insort(free, (left, where))
    return packed
