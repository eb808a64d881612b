"""Which version is watched, and where its reference begins."""

import pytest

from gateway.store.epochs import EpochRow
from monitoring.watch.basis import Basis, Pinned, champion, champion_since, choose


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ({"s@1": 1.0}, "s@1"),
        ({"s@1": 0.95, "s@2": 0.05}, "s@1"),
        ({"s@1": 0.4, "s@2": 0.6}, "s@2"),
        ({"s@2": 0.5, "s@1": 0.5}, "s@1"),
        ({"s@1": 0.0}, None),
        ({}, None),
    ],
)
def test_the_champion_has_most_of_the_traffic(arms: dict[str, float], expected: str | None) -> None:
    """Equals are ordered by name, and nothing served is nobody's."""
    assert champion(arms) == expected


def test_steps_of_a_canary_change_nothing() -> None:
    """A version's time begins when it got most of the traffic, and not with each step beside it."""
    epochs = [
        EpochRow("r", number, float(number), arms)
        for number, arms in enumerate(
            [{"s@1": 1.0}, {"s@2": 1.0}, {"s@2": 0.95, "s@3": 0.05}, {"s@2": 0.7, "s@3": 0.3}, {"s@2": 1.0}]
        )
    ]
    assert champion_since(epochs, "s@2") == 1.0
    assert champion_since(epochs, "s@1") is None
    assert champion_since([*epochs, EpochRow("r", 9, 9.0, {"s@1": 1.0})], "s@1") == 9.0


PROMOTED = Basis("s@1", "m", 5.0)
ALARMED = Basis("s@1", "m", 8.0, "alarm")
PERIOD = Pinned(1.0, 2.0)
PINNED = Basis("s@1", "m", 1.0, "pinned", 2.0, PERIOD)


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (None, {}, PROMOTED),
        (PROMOTED, {}, PROMOTED),
        (ALARMED, {}, ALARMED),
        (ALARMED, {"adapter": "s@2", "since": 9.0}, Basis("s@2", "m", 9.0)),
        (ALARMED, {"model": "other"}, Basis("s@1", "other", 5.0)),
        (PROMOTED, {"since": 9.0}, Basis("s@1", "m", 9.0)),
        (PROMOTED, {"pinned": PERIOD}, PINNED),
        (PINNED, {"pinned": PERIOD}, PINNED),
        (PINNED, {}, PROMOTED),
        (Basis("s@1", "m", 8.0, "alarm", pinned=PERIOD), {"pinned": PERIOD},
         Basis("s@1", "m", 8.0, "alarm", pinned=PERIOD)),
    ],
)  # fmt: skip
def test_a_reference_is_kept_until_something_ends_it(
    before: Basis | None, now: dict[str, object], expected: Basis
) -> None:
    """Another version, embedding model or pinned period begins anew; an alarm's reference stays."""
    given = {"adapter": "s@1", "since": 5.0, "model": "m", **now}
    assert choose(before, **given) == expected  # type: ignore[arg-type]
    assert Basis.from_document(expected.document()) == expected
