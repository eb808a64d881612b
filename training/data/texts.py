"""The texts of a row, whatever its kind: to look at them, and to change them all alike."""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from training.data.rows import Example, Preference, Rated, Row, Text

RowT = TypeVar("RowT", bound=Row)


def texts(row: Row) -> tuple[str, ...]:
    """Return every text of a row that is trained on: prompt first, then the answers."""
    return (*prompt_texts(row), *answers(row))


def prompt_texts(row: Row) -> tuple[str, ...]:
    """Return the texts before the answer; of a plain text, itself."""
    return (row.text,) if isinstance(row, Text) else tuple(message["content"] for message in row.messages)


def answers(row: Row) -> tuple[str, ...]:
    """Return the answers of a row: one, of a preference the better and the worse one, of a text none."""
    match row:
        case Example() | Rated():
            return (row.completion,)
        case Preference():
            return (row.chosen, row.rejected)
        case Text():
            return ()


def label(row: Row) -> str | None:
    """Return what a row counts as where its data set is balanced; None for kinds that have no such thing."""
    match row:
        case Example():
            return row.completion
        case Rated():
            return "liked" if row.liked else "not liked"
        case _:
            return None


def rewritten(row: RowT, change: Callable[[str], str]) -> RowT:
    """Return the row with every text changed; the very same row when none did."""
    before = texts(row)
    after = [change(text) for text in before]
    if tuple(after) == before:
        return row
    if isinstance(row, Text):
        return replace(row, text=after[0])
    messages = tuple({**message, "content": text} for message, text in zip(row.messages, after, strict=False))
    if isinstance(row, Preference):
        return replace(row, messages=messages, chosen=after[-2], rejected=after[-1])
    return replace(row, messages=messages, completion=after[-1])
