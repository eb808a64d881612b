"""One raw row of a known form as a row to train on; what is wrong with it is a fault that names the field."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from training.data.faults import Fault, kind_of
from training.data.messages import answer, messages, split_answer, text
from training.data.recognise import Form
from training.data.rows import Example, Message, Preference, Rated, Row, Text

_LIKED = {"true": True, "1": True, "false": False, "0": False}
_TOOLS = ("tools", "functions")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the parts of a row stand. `weight`: the column with the row's weight, if it has one."""

    prompt: str = "prompt"
    completion: str = "completion"
    chosen: str = "chosen"
    rejected: str = "rejected"
    liked: str = "label"
    weight: str | None = None


Raw = Mapping[str, Any]


def parse(row: Raw, form: Form, line: int, columns: Columns) -> Row:
    """Return the row that a raw one of a form stands for.

    Raises:
        Fault: a field is missing or can't be trained on.
    """
    return _PARSERS[form](row, line, columns)


def _chat(row: Raw, line: int, columns: Columns) -> Row:
    if any(row.get(name) for name in _TOOLS):
        raise Fault("field 'tools': calls of tools are not trained here; leave the row out")
    before, said = split_answer(row.get("messages"), "messages")
    rest = _rest(row, columns, "messages", *_TOOLS, "parallel_tool_calls")
    return Example(before, said, line, rest, _weight(row, columns))


def _plain(row: Raw, line: int, columns: Columns) -> Row:
    prompt, said = _prompt(row, "prompt"), _said(row, "completion")
    return Example(prompt, said, line, _rest(row, columns, "prompt", "completion"), _weight(row, columns))


def _columns(row: Raw, line: int, columns: Columns) -> Row:
    prompt, said = _prompt(row, columns.prompt), _said(row, columns.completion)
    rest = _rest(row, columns, columns.prompt, columns.completion)
    return Example(prompt, said, line, rest, _weight(row, columns))


def _instruction(row: Raw, line: int, columns: Columns) -> Row:
    asked = _string(row, "instruction")
    if row.get("history"):
        raise Fault("field 'history': earlier turns are read from chat rows only ('messages')")
    given = row.get("input")
    if given is not None and not isinstance(given, str):
        raise Fault(f"field 'input' is {kind_of(given)}, and must be a string")
    if given and given.strip():
        asked += "\n\n" + text(given.strip(), "field 'input'")
    system = row.get("system")
    before: tuple[Message, ...] = ({"role": "user", "content": asked},)
    if system:
        before = ({"role": "system", "content": _string(row, "system")}, *before)
    rest = _rest(row, columns, "instruction", "input", "output", "system", "history")
    return Example(before, _string(row, "output"), line, rest, _weight(row, columns))


def _preference(row: Raw, line: int, columns: Columns) -> Row:
    prompt, chosen, rejected = columns.prompt, columns.chosen, columns.rejected
    for name in (chosen, rejected):
        _present(row, name)
    if row.get(prompt) is None:
        before, better, worse = _implied(row, chosen, rejected)
    else:
        before = _prompt(row, prompt)
        better, worse = (_continued(row, name, before) for name in (chosen, rejected))
    rest = _rest(row, columns, prompt, chosen, rejected)
    return _pair(Preference(before, better, worse, line, rest), chosen, rejected)


def _openai_preference(row: Raw, line: int, columns: Columns) -> Row:
    fields = ("preferred_output", "non_preferred_output")
    given = row.get("input")
    if not isinstance(given, dict):
        raise Fault(f"field 'input' is {kind_of(given)}, and must be an object with messages")
    if any(given.get(name) for name in _TOOLS):
        raise Fault("field 'input.tools': calls of tools are not trained here; leave the row out")
    before = tuple(messages(given.get("messages"), "input.messages"))
    better, worse = (answer(_present(row, name), name) for name in fields)
    return _pair(Preference(before, better, worse, line, _rest(row, columns, "input", *fields)), *fields)


def _rated(row: Raw, line: int, columns: Columns) -> Row:
    prompt, said = _prompt(row, columns.prompt), _said(row, columns.completion)
    value = _present(row, columns.liked)
    liked = value if isinstance(value, bool) else _LIKED.get(str(value).strip().lower())
    if liked is None:
        raise Fault(f"field {columns.liked!r} is {value!r:.60}, and must be true or false")
    rest = _rest(row, columns, columns.prompt, columns.completion, columns.liked)
    return Rated(prompt, said, liked, line, rest)


def _text(row: Raw, line: int, columns: Columns) -> Row:
    name = "text" if columns.prompt == Columns().prompt else columns.prompt
    return Text(_string(row, name), line, _rest(row, columns, name))


_PARSERS: Mapping[Form, Callable[[Raw, int, Columns], Row]] = {
    "chat": _chat,
    "prompt-completion": _plain,
    "instruction": _instruction,
    "preference": _preference,
    "openai-preference": _openai_preference,
    "rated": _rated,
    "text": _text,
    "columns": _columns,
}


def _implied(row: Raw, chosen: str, rejected: str) -> tuple[tuple[Message, ...], str, str]:
    """Return the prompt that two whole conversations have in common, and how each ends."""
    for name in (chosen, rejected):
        if isinstance(row[name], str):
            raise Fault(
                f"field 'prompt' is missing, and {name!r} is a text: where the answer begins is unknown"
            )
    first, better = split_answer(row[chosen], chosen)
    second, worse = split_answer(row[rejected], rejected)
    if first != second:
        raise Fault(
            f"fields {chosen!r} and {rejected!r} differ before their last messages, so they share no prompt"
        )
    return first, better, worse


def _continued(row: Raw, name: str, before: tuple[Message, ...]) -> str:
    """Return an answer that is a text, a message, or the whole conversation again."""
    value = row[name]
    if not isinstance(value, list) or len(value) <= 1:
        return _said(row, name)
    first, said = split_answer(value, name)
    if [message for message in first if message["role"] != "system"] != [
        message for message in before if message["role"] != "system"
    ]:
        raise Fault(f"field {name!r}: the messages before the last are not those of the prompt")
    return said


def _pair(pair: Preference, chosen: str, rejected: str) -> Preference:
    if pair.chosen == pair.rejected:
        raise Fault(f"fields {chosen!r} and {rejected!r} are the same answer")
    return pair


def _prompt(row: Raw, field: str) -> tuple[Message, ...]:
    if isinstance(row.get(field), list):
        found = tuple(messages(row[field], field))
        if found[-1]["role"] == "assistant":
            raise Fault(f"field {field!r}: the last message must not be the assistant's, whose turn is next")
        return found
    return ({"role": "user", "content": _string(row, field)},)


def _said(row: Raw, field: str) -> str:
    return answer(row[field], field) if isinstance(row.get(field), list) else _string(row, field)


def _present(row: Raw, field: str) -> Any:
    if row.get(field) is None:
        there = ", ".join(repr(name) for name, value in row.items() if value is not None)
        raise Fault(f"field {field!r} is missing; the row has {there or 'no field'}")
    return row[field]


def _string(row: Raw, field: str) -> str:
    value = _present(row, field)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # labels are often written 0 and 1
    if not isinstance(value, str):
        raise Fault(f"field {field!r} is {kind_of(value)}, and must be a string or a whole number")
    if not value.strip():
        raise Fault(f"field {field!r} is empty")
    return text(value.strip(), f"field {field!r}")


def _weight(row: Raw, columns: Columns) -> float:
    if columns.weight is None:
        return 1.0
    value = _present(row, columns.weight)
    try:
        weight = float(value)
    except (TypeError, ValueError):
        weight = math.nan
    if isinstance(value, bool) or not (0 < weight < math.inf):
        raise Fault(f"field {columns.weight!r} is {value!r:.60}, and a weight must be a number above 0")
    return weight


def _rest(row: Raw, columns: Columns, *used: str) -> dict[str, str]:
    """Return every other field as text; what is empty is left out."""
    return {
        name: _as_text(value)
        for name, value in row.items()
        if name not in used and name != columns.weight and value is not None and value != ""
    }


def _as_text(value: Any) -> str:
    if isinstance(value, dict | list | bool | int | float):
        value = json.dumps(value, ensure_ascii=False, sort_keys=True, default=_told)
    return _told(value).encode(errors="replace").decode()  # half a character can be no group's name


def _told(value: Any) -> str:
    """Return a value that JSON does not have, such as a date, as text; of bytes only how many there are."""
    return f"{len(value)} bytes" if isinstance(value, bytes | bytearray) else str(value)
