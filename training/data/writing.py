"""Write rows as JSON Lines that reading understands without options."""

import json
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from training.data.rows import DataError, Example, Preference, Rated, Row

_TAKEN = frozenset(
    {
        "messages", "prompt", "completion", "label", "chosen", "rejected", "text", "instruction", "input",
        "output", "system", "history", "tools", "functions", "parallel_tool_calls", "preferred_output",
        "non_preferred_output", "weight",
    }
)  # fmt: skip
"""Fields that say of which form a row is: a further column of such a name is written as `column_NAME`."""


def write_rows(rows: Iterable[Row], path: Path, *, mask: Callable[[str], str] = str) -> int:
    """Write rows to a new file, whole or not at all; return how many. `mask` is applied to further columns.

    Raises:
        DataError: the file is there already, or its name does not end in .jsonl.
        OSError: it can't be written.
    """
    if path.suffix.lower() != ".jsonl":
        raise DataError(f"{path} does not end in .jsonl, which is what is written")
    if path.exists():
        raise DataError(f"{path} exists already; name another file, or remove it")
    scratch = path.with_name(f".tmp-{uuid.uuid4().hex}")
    count = 0
    try:
        with scratch.open("w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(document(row, mask), ensure_ascii=False) + "\n")
                count += 1
        scratch.rename(path)
    finally:
        scratch.unlink(missing_ok=True)
    return count


def document(row: Row, mask: Callable[[str], str] = str) -> dict[str, Any]:
    """Return a row as the JSON object that reads as it."""
    rest = {
        (f"column_{name}" if name in _TAKEN else name): mask(value) for name, value in row.columns.items()
    }
    match row:
        case Example():
            weight = {} if row.weight == 1 else {"weight": row.weight}
            return {"messages": [*row.messages, _answer(row.completion)], **weight, **rest}
        case Preference():
            both = {"chosen": [_answer(row.chosen)], "rejected": [_answer(row.rejected)]}
            return {"prompt": list(row.messages), **both, **rest}
        case Rated():
            said = {"completion": [_answer(row.completion)], "label": row.liked}
            return {"prompt": list(row.messages), **said, **rest}
        case _:
            return {"text": row.text, **rest}


def _answer(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}
