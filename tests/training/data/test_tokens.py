"""Lengths in a model's own tokens."""

from pathlib import Path

import pytest

from training.data.tokens import Counting, counting

pytestmark = pytest.mark.slow


def test_a_model_counts_its_tokens_and_says_its_window(tiny_base: Path, tmp_path: Path) -> None:
    """Bytes are counted, and nothing of the chat template; a tokenizer alone has no window."""
    of = counting(str(tiny_base))
    assert (of.tokens("abc"), of.window) == (3, 512)
    for path in tiny_base.glob("token*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    alone = counting(str(tmp_path))
    assert (alone.tokens("abc"), alone.window) == (3, None)


def test_the_limit_is_the_options_or_the_window() -> None:
    """Whichever is less."""
    assert [Counting(len, window).limit(100) for window in (None, 50, 500)] == [100, 50, 100]


def test_no_such_model_is_an_error(tmp_path: Path) -> None:
    """Who asked for it decides what that means."""
    with pytest.raises(OSError, match="nowhere"):
        counting(str(tmp_path / "nowhere"))
