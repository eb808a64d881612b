"""Which of the proposed rows are trained on and judged by: checked, balanced, mixed with old ones. Pure.

What is judged by comes first: rows that say nearly what a held-out or golden row says are not trained on,
whoever wrote them and whatever set they come from.
"""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from gateway.core.curation import OPEN, REVIEWED, CuratedRow
from gateway.core.loop import LoopPolicy
from training.curation.rows import (
    KIND_OF,
    Method,
    as_row,
    converted,
    method_of,
    of_method,
    to_judge,
    wanted_of,
)
from training.data.balance import Resampling, resampled
from training.data.check import CheckOptions, check
from training.data.duplicates import THRESHOLD, across
from training.data.labels import counted
from training.data.normalise import normal_form
from training.data.rows import Dataset, Example, Row

SEED = 7
BALANCE = 3
"""No label has more new rows than so many times the rarest one's, unless that is below half an even share."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a run may choose from. `proposed` are its own rows, those from before `new_since` old ones.

    `judged` are rows of earlier runs that are judged by. `old` and `old_held_out` are the champion's, and
    `golden` the rows of every golden set of the route.
    """

    proposed: Sequence[CuratedRow]
    judged: Sequence[Example] = ()
    golden: Sequence[Example] = ()
    old: Sequence[Row] = ()
    old_held_out: Sequence[Row] = ()
    new_since: float = 0.0


@dataclass(frozen=True, slots=True)
class Chosen:
    """The rows of each file, in their order. `new` counts the training rows that are not replayed.

    `waiting` rows would count if a person approved them.
    """

    method: Method
    train: tuple[Row, ...]
    held_out_new: tuple[Example, ...]
    held_out_old: tuple[Example, ...]
    new: int
    trusted_held_out_new: int
    waiting: int
    dropped: Counter[str] = field(default_factory=Counter)


def decide(rows: Rows, policy: LoopPolicy) -> Chosen:
    """Return the rows that are used. The same rows in any order give the same."""
    dropped: Counter[str] = Counter()
    ordered = sorted(rows.proposed, key=lambda row: row.id)
    counting = [row for row in ordered if counts(row, policy)]
    waiting = sum(row.state in OPEN for row in ordered) if policy.review else 0
    train = [row for row in counting if row.split == "train" and row.at >= rows.new_since]
    before = [row for row in counting if row.split == "train" and row.at < rows.new_since]
    method = method_of(train, least=policy.min_new_examples) if policy.method == "auto" else policy.method
    held_out, old_held_out = _held_out(counting, rows, dropped)
    apart = [*held_out, *old_held_out, *rows.judged, *rows.golden]
    old = [*(as_row(row) for row in before), *rows.old]
    learned = _learned(_new(train, method, dropped), old, method, apart, policy, dropped)
    return Chosen(
        method=method,
        train=tuple(learned),
        held_out_new=tuple(held_out),
        held_out_old=tuple(old_held_out),
        new=sum(row.columns.get("replayed") != "true" for row in learned),
        trusted_held_out_new=sum(row.columns.get("trusted") == "true" for row in held_out),
        waiting=waiting,
        dropped=dropped,
    )


def counts(row: CuratedRow, policy: LoopPolicy) -> bool:
    """Whether a row counts: if the policy wants a review, only when a person has let it."""
    return row.state in REVIEWED or (row.state in OPEN and not policy.review)


def _held_out(
    counting: Sequence[CuratedRow], rows: Rows, dropped: Counter[str]
) -> tuple[list[Example], list[Example]]:
    """Return the new and the old rows to judge by, without those that the champion has learned from.

    A candidate may begin with the champion's weights, so what these have seen judges neither of them fairly.
    """
    mine = [(row.at >= rows.new_since, to_judge(row)) for row in counting if row.split == "held_out"]
    golden = list(rows.golden)
    new = _once([made for is_new, made in mine if made and is_new], besides=golden)
    old = [made for is_new, made in mine if made and not is_new]
    old += [made for row in rows.old_held_out if (made := wanted_of(row))]
    found = [new, _once(old, besides=[*new, *golden])]
    learned = [row.key for row in rows.old]
    for place, held in enumerate(found):
        seen = across([row.key for row in held], learned, THRESHOLD) if learned else {}
        dropped["held_out_but_learned"] += len(seen)
        found[place] = [row for number, row in enumerate(held) if number not in seen]
    return found[0], found[1]


def _new(train: Sequence[CuratedRow], method: Method, dropped: Counter[str]) -> list[Row]:
    found = [made for row in train if (made := of_method(row, method)) is not None]
    dropped["of_no_use_for_the_method"] += len(train) - len(found)
    return found


def _learned(  # noqa: PLR0917 - all that decides them
    new: Sequence[Row],
    old: Sequence[Row],
    method: Method,
    apart: Sequence[Example],
    policy: LoopPolicy,
    dropped: Counter[str],
) -> list[Row]:
    """Return new and replayed rows that may be trained on, in the order of a hash of their prompts."""
    share = policy.replay_share
    fit = _in_order([made for row in old if (made := converted(row, method)) is not None])
    most_new = policy.max_examples if not fit else max(1, math.floor(policy.max_examples * (1 - share)))
    spare = math.ceil(2 * min(len(new), most_new) * share / (1 - share))
    pool = [_told(row, replayed=False) for row in new] + [_told(row, replayed=True) for row in fit[:spare]]
    kept = _checked(pool, method, apart, dropped)
    fresh = [row for row in kept if row.columns["replayed"] != "true"]
    balanced = _balanced(fresh)
    dropped["balance"] += len(fresh) - len(balanced)
    most = _in_order(balanced)[:most_new]
    dropped["over_the_most"] += len(balanced) - len(most)
    wanted = round(len(most) * share / (1 - share))
    again = [row for row in kept if row.columns["replayed"] == "true"][:wanted]
    return _in_order([*most, *again])


def _checked(
    rows: Sequence[Row], method: Method, apart: Sequence[Example], dropped: Counter[str]
) -> list[Row]:
    """Return the rows without copies, contradictions, and what is nearly a row that is judged by."""
    if not rows:
        return []
    numbered = tuple(replace(row, line=place) for place, row in enumerate(rows, start=1))
    options = CheckOptions(personal="off", normalise=False, near=THRESHOLD, held_out=tuple(apart))
    found = check(Dataset(KIND_OF[method], numbered, "curated rows"), options)
    for finding in found.report.findings:
        if finding.action == "dropped":
            dropped[finding.name.replace(" ", "_")] += finding.rows
    return list(found.dataset.rows)


def _balanced(rows: Sequence[Row]) -> list[Row]:
    labels = counted(rows)
    if len(labels) < 2:
        return list(rows)
    cap = max(BALANCE * min(labels.values()), math.ceil(len(rows) / (2 * len(labels))))
    return list(resampled(rows, Resampling("down", cap, SEED)))


def _once(rows: Sequence[Example], *, besides: Sequence[Example] = ()) -> list[Example]:
    """Return one row of each prompt, a demonstration before others, and none of a prompt of `besides`."""
    seen = {normal_form(row.key) for row in besides}
    found: dict[str, Example] = {}
    for row in sorted(rows, key=lambda row: row.columns.get("kind") != "demonstration"):
        key = normal_form(row.key)
        if key not in seen:
            found.setdefault(key, row)
    return _in_order(list(found.values()))


def _told(row: Row, *, replayed: bool) -> Row:
    return replace(row, columns={**row.columns, "replayed": str(replayed).lower()})


def _in_order(rows: Sequence[Any]) -> list[Any]:
    """Return rows by a hash of their texts, so that the order of their source makes no difference."""
    return sorted(rows, key=_place)


def _place(row: Any) -> bytes:
    parts = (
        row.key,
        *(str(getattr(row, name, "")) for name in ("completion", "chosen", "rejected", "liked")),
    )
    return hashlib.sha256("\0".join((str(SEED), *parts)).encode()).digest()
