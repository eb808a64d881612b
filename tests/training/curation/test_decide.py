"""Which proposed rows are trained on and judged by."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.core.curation import CuratedRow
from gateway.core.loop import LoopPolicy
from tests.training.curation.conftest import prompt
from training.curation.decide import Rows, decide
from training.data import check
from training.data.duplicates import THRESHOLD, across
from training.data.rows import Example, Preference, Rated

POLICY = LoopPolicy(min_new_examples=4, replay_share=0.0)


@pytest.fixture(autouse=True, scope="module")
def _light() -> Any:
    """Languages are not told apart."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(check, "languages", lambda texts: ("en",) * len(texts))
        yield


def row(number: int, **changes: Any) -> CuratedRow:
    """One proposed row, a demonstration to train on."""
    plain: dict[str, Any] = {
        "id": f"row-{number:04}", "route": "support", "request_id": f"req-{number}", "other_id": None,
        "unit": f"u{number}", "key_id": "k", "adapter": "base", "kind": "demonstration", "split": "train",
        "trusted": False, "state": "proposed", "at": float(number), "proposed_at": 0.0,
        "proposed_by": "loop-1", "answer": f"answer {number}",
        "messages": [{"role": "user", "content": prompt(number)}],
    }  # fmt: skip
    return CuratedRow(**{**plain, **changes})


def example(number: int, **columns: str) -> Example:
    """One row from elsewhere."""
    return Example(({"role": "user", "content": prompt(number)},), f"answer {number}", columns=columns)


def ids(rows: Any) -> set[str]:
    """The ids of rows."""
    return {each.columns["row_id"] for each in rows}


def test_the_order_of_the_rows_makes_no_difference() -> None:
    """So a run that is begun again gives the very same file."""
    rows = [row(number) for number in range(12)]
    assert decide(Rows(rows), POLICY) == decide(Rows(rows[::-1]), POLICY)


@pytest.mark.parametrize(
    ("review", "states", "new", "waiting"),
    [
        (False, ["proposed", "approved", "edited", "rejected"], 3, 0),
        (True, ["proposed", "approved", "edited", "rejected"], 2, 1),
    ],
)
def test_what_nobody_has_reviewed_counts_if_the_policy_lets_it(
    review: bool, states: list[str], new: int, waiting: int
) -> None:
    """What was rejected never does."""
    rows = [row(number, state=state) for number, state in enumerate(states)]
    found = decide(Rows(rows), POLICY.model_copy(update={"review": review}))
    assert (found.new, found.waiting) == (new, waiting)


@pytest.mark.parametrize(
    ("kinds", "method", "kind"),
    [
        ({"demonstration": 4, "disliked": 9}, "sft", Example),
        ({"liked": 4, "disliked": 4}, "kto", Rated),
        ({"compared": 5}, "dpo", Preference),
        ({"liked": 9}, "sft", Example),
    ],
)
def test_the_method_follows_from_the_rows(kinds: dict[str, int], method: str, kind: type) -> None:
    """Demonstrations are trained on as they are; ratings both ways and pairs are preferences."""
    every = [each for each, count in kinds.items() for _ in range(count)]
    rows = [
        row(number, kind=each, rejected=f"worse {number}" if each == "compared" else None)
        for number, each in enumerate(every)
    ]
    found = decide(Rows(rows), POLICY)
    assert found.method == method
    assert found.train
    assert all(isinstance(each, kind) for each in found.train)


def test_held_out_rows_are_answers_that_were_wanted() -> None:
    """Of one prompt one row, the demonstration; what comes from a trusted source is counted."""
    rows = [
        row(1, split="held_out", trusted=True),
        row(2, split="held_out", kind="disliked"),
        row(3, split="held_out", kind="liked", messages=row(1).messages),
        row(4, split="held_out", state="approved"),
        row(5, split="held_out", kind="liked"),
    ]
    found = decide(Rows(rows), POLICY)
    assert ids(found.held_out_new) == {"row-0001", "row-0004", "row-0005"}
    assert found.trusted_held_out_new == 2
    assert found.train == ()


def test_traffic_from_before_the_change_is_old() -> None:
    """It is judged by as old, and replayed, and is no new row."""
    rows = [row(number, at=float(number)) for number in range(8)]
    rows += [row(number, at=float(number % 2), split="held_out") for number in (20, 21)]
    found = decide(Rows(rows, new_since=4.0), POLICY.model_copy(update={"replay_share": 0.5}))
    assert (found.new, len(found.train)) == (4, 8)
    assert (ids(found.held_out_new), ids(found.held_out_old)) == (set(), {"row-0020", "row-0021"})


def test_old_rows_are_replayed_by_their_share() -> None:
    """A share of the whole, drawn by a hash; without old rows there is none."""
    rows, old = [row(number) for number in range(12)], [example(100 + number) for number in range(30)]
    found = decide(Rows(rows, old=old), POLICY.model_copy(update={"replay_share": 0.25}))
    replayed = [each for each in found.train if each.columns["replayed"] == "true"]
    assert (found.new, len(replayed)) == (12, 4)
    assert decide(Rows(rows), POLICY.model_copy(update={"replay_share": 0.25})).new == 12


def test_no_more_than_the_policy_allows() -> None:
    """Replayed rows are among them."""
    rows, old = [row(number) for number in range(40)], [example(100 + number) for number in range(40)]
    policy = POLICY.model_copy(update={"max_examples": 20, "replay_share": 0.25})
    found = decide(Rows(rows, old=old), policy)
    assert (found.new, len(found.train)) == (15, 20)
    assert found.dropped["over_the_most"] == 25


def test_labels_are_balanced() -> None:
    """The most frequent label has at most three times what the rarest has, or half an even share."""
    rows = [row(number, answer="yes" if number < 40 else "no") for number in range(44)]
    found = decide(Rows(rows), POLICY)
    labels = [each.completion for each in found.train]
    assert (labels.count("yes"), labels.count("no")) == (12, 4)


def test_what_the_champion_has_learned_is_not_judged_by() -> None:
    """A candidate may begin with its weights."""
    rows = [row(1, split="held_out"), row(2, split="held_out")]
    found = decide(Rows(rows, old=[example(1)]), POLICY)
    assert ids(found.held_out_new) == {"row-0002"}
    assert found.dropped["held_out_but_learned"] == 1


@pytest.mark.slow
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    held=st.lists(st.integers(0, 25), max_size=4, unique=True),
    golden=st.lists(st.integers(0, 25), max_size=4, unique=True),
    judged=st.lists(st.integers(0, 25), max_size=3, unique=True),
    old=st.lists(st.integers(0, 25), max_size=8, unique=True),
    change=st.sampled_from(["", "!", " indeed", "\n"]),
)
def test_nothing_nearly_judged_by_is_trained_on(
    held: list[int], golden: list[int], judged: list[int], old: list[int], change: str
) -> None:
    """Whatever says nearly what a held-out or golden row says is left out, replayed rows too."""
    rows = [
        row(number, messages=[{"role": "user", "content": prompt(number) + change}]) for number in range(26)
    ]
    rows += [row(1000 + number, split="held_out", messages=row(number).messages) for number in held]
    given_rows = Rows(
        rows,
        judged=[example(number) for number in judged],
        golden=[example(number) for number in golden],
        old=[example(number) for number in old],
    )
    found = decide(given_rows, POLICY.model_copy(update={"replay_share": 0.3}))
    apart = [*found.held_out_new, *found.held_out_old, *given_rows.judged, *given_rows.golden]
    near = across([each.key for each in found.train], [each.key for each in apart], THRESHOLD)
    assert near == {}
    assert not ids(found.held_out_new) & {each.columns.get("row_id") for each in found.train}


def test_rows_know_where_they_come_from() -> None:
    """Each carries its ids, its subject and its trust, and by what results are told apart."""
    found = decide(Rows([replace(row(1), trusted=True)]), POLICY)
    (one,) = found.train
    assert one.columns == {
        "row_id": "row-0001", "request_id": "req-1", "at": "1970-01-01T00:00:01+00:00", "trusted": "true",
        "kind": "demonstration", "version": "base", "subject": "u1", "replayed": "false",
    }  # fmt: skip
