"""Limits as documents: what is read, what counts for nothing, and who is meant by a star."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.limits import MOST, NO_LIMITS, LimitBook, Limits

COUNTS = st.one_of(st.none(), st.integers(1, MOST))
LIMITS = st.builds(
    Limits,
    requests_per_minute=COUNTS,
    tokens_per_minute=COUNTS,
    concurrent=COUNTS,
    tokens_per_day=COUNTS,
    tokens_per_month=COUNTS,
    max_tokens=COUNTS,
    max_body_bytes=COUNTS,
    weight=st.floats(0.01, 1000),
    priority=st.sampled_from(["low", "normal", "high"]),
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=30, deadline=None)
@given(LIMITS)
def test_a_document_says_all_of_it(limits: Limits) -> None:
    """What is stored is read as it was."""
    assert Limits.of(limits.document()) == limits


@settings(max_examples=30, deadline=None)
@given(st.dictionaries(st.sampled_from([*Limits.__slots__, "of_a_newer_release"]), ANYTHING))
def test_what_is_no_limit_counts_for_nothing(document: dict[str, Any]) -> None:
    """Any document is read; each of its limits is a positive number or none."""
    limits = Limits.of(document)
    for name in Limits.__slots__:
        value = getattr(limits, name)
        if name == "priority":
            assert value in ("low", "normal", "high")
        else:
            assert value is None or value > 0


@pytest.mark.parametrize(
    "document", [None, {}, {"weight": 0}, {"requests_per_minute": True}, {"concurrent": -1}]
)
def test_no_limits(document: dict[str, Any] | None) -> None:
    """Nothing, and nothing that makes sense, is no limits."""
    assert Limits.of(document) == NO_LIMITS
    assert not NO_LIMITS.limits


def test_whose_they_are() -> None:
    """Somebody's own limits go before those of everybody, whole; other scopes and empty ones are left out."""
    book = LimitBook.of(
        {
            ("tenant", "*"): {"requests_per_minute": 5, "weight": 2.0},
            ("tenant", "shop"): {"tokens_per_day": 7, "priority": "high"},
            ("tenant", "none"): {},
            ("planet", "mars"): {"concurrent": 1},
        }
    )
    assert book.limits
    assert book.find("tenant", "shop") == Limits(tokens_per_day=7, priority="high")
    assert (
        book.find("tenant", "none") == book.find("tenant", "?") == Limits(requests_per_minute=5, weight=2.0)
    )
    assert book.find("route", "shop") is None
    assert book.shares() == {"*": 2.0, "shop": 4.0}
    assert book.priorities() == {"shop": "high"}
    assert not LimitBook.of({("tenant", "*"): {"weight": 2.0}}).limits
