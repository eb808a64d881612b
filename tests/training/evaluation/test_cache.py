"""Answers that are kept."""

import json
from pathlib import Path

import pytest

from training.data.rows import Example
from training.evaluation.cache import Cache, row_key

CONDITIONS = {"system": "sha256:1", "room": 4}


def test_what_is_added_is_there_for_the_next_run(tmp_path: Path) -> None:
    """By row and by conditions; other conditions have nothing."""
    first = Cache(tmp_path / "kept", CONDITIONS)
    first.add({"a": {"answer": "x"}, "b": {"answer": "ü\n"}})
    again = Cache(tmp_path / "kept", CONDITIONS)
    assert again.get("b") == {"answer": "ü\n"}
    assert again.has(["a", "b"])
    assert not again.has(["a", "c"])
    assert Cache(tmp_path / "kept", {**CONDITIONS, "room": 5}).get("a") is None


def test_nobody_else_can_read_it(tmp_path: Path) -> None:
    """Answers may be as personal as prompts."""
    Cache(tmp_path / "kept", CONDITIONS).add({"a": {"answer": "x"}})
    (path,) = (tmp_path / "kept").iterdir()
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("length", range(1, 30, 4))
def test_a_torn_line_is_left_out_and_the_next_one_is_whole(tmp_path: Path, length: int) -> None:
    """Killed between two bytes: what was whole stays, what comes later is read."""
    Cache(tmp_path, CONDITIONS).add({"a": {"answer": "first"}})
    Cache(tmp_path, CONDITIONS).add({"b": {"answer": "second"}})
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\n") + 1 + length])
    Cache(tmp_path, CONDITIONS).add({"c": {"answer": "third"}})
    found = Cache(tmp_path, CONDITIONS)
    assert found.has(["a", "c"])
    assert not found.has(["b"])


def test_lines_that_are_no_rows_are_left_out(tmp_path: Path) -> None:
    """A file that somebody edited is no reason to stop."""
    Cache(tmp_path, CONDITIONS).add({"a": {"answer": "x"}})
    (path,) = tmp_path.iterdir()
    path.write_text(
        "[1]\nnull\n{}\n\xff\n" + json.dumps({"row": "z", "answer": "y"}) + "\n", encoding="utf-8"
    )
    assert Cache(tmp_path, CONDITIONS).get("z") == {"answer": "y"}


def test_without_a_folder_nothing_is_kept() -> None:
    """`--fresh` asks all again."""
    cache = Cache(None, CONDITIONS)
    cache.add({"a": {"answer": "x"}})
    assert cache.has(["a"])
    assert not Cache(None, CONDITIONS).has(["a"])


def test_a_row_is_its_messages_and_its_wanted_answer() -> None:
    """Where it stands in the file, and its other fields, do not matter."""
    message = {"role": "user", "content": "x"}
    one = Example((message,), "a", line=1, columns={"user": "1"})
    assert row_key(one) == row_key(Example((message,), "a", line=9))
    assert row_key(one) != row_key(Example((message,), "b"))
    assert row_key(one) != row_key(Example((message, message), "a"))
