"""Times as people type them."""

import pytest

from gateway.core.times import parse_time


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30m", 1_000_000 - 1800),
        ("1.5h", 1_000_000 - 5400),
        ("2w", 1_000_000 - 1_209_600),
        ("1970-01-02", 86_400),
        ("1970-01-01T01:00", 3600),
        ("1970-01-01T01:00+01:00", 0),
        ("1970-01-01T00:00:05Z", 5),
    ],
)
def test_times(text: str, expected: float) -> None:
    """Ages count back from now; times without an offset are UTC."""
    assert parse_time(text, now=1_000_000) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "-3h", "3 h", "12:00"])
def test_other_text_is_refused(text: str) -> None:
    """Anything else is an error that shows what would do."""
    with pytest.raises(ValueError, match="7d"):
        parse_time(text, now=0)
