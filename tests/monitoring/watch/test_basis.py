"""Which version is watched, and where its reference begins."""

import pytest

from monitoring.watch.basis import Basis, Pinned, choose

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
