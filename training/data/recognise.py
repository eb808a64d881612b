"""Which form rows have, by the fields of all of them.

What may be read in two ways is an error that names the option which decides, not a guess.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, Literal, get_args

from training.data.rows import DataError, Kind
from training.evaluation.metrics import labels_of

NamedForm = Literal[
    "chat", "prompt-completion", "instruction", "preference", "openai-preference", "rated", "text"
]
"""What `--format` takes."""

Form = NamedForm | Literal["columns"]
"""`columns` is the form of rows whose prompt and answer are named by options."""

FORMS: tuple[Form, ...] = (*get_args(NamedForm), "columns")

KIND_OF: Mapping[Form, Kind] = {
    "chat": "examples",
    "prompt-completion": "examples",
    "instruction": "examples",
    "preference": "preferences",
    "openai-preference": "preferences",
    "rated": "rated",
    "text": "texts",
    "columns": "examples",
}
_NEEDS: Mapping[Form, tuple[str, ...]] = {
    "chat": ("messages",),
    "prompt-completion": ("prompt", "completion"),
    "instruction": ("instruction", "output"),
    "preference": ("chosen", "rejected"),
    "openai-preference": ("input", "preferred_output", "non_preferred_output"),
    "rated": ("prompt", "completion", "label"),
}
_ANSWERS = frozenset(
    {
        "label",
        "labels",
        "class",
        "category",
        "target",
        "answer",
        "output",
        "response",
        "completion",
        "summary",
    }
)
"""Fields that beside `text` may be an answer to it."""

_ABOUT = frozenset(
    {
        "source",
        "split",
        "lang",
        "language",
        "license",
        "licence",
        "domain",
        "url",
        "id",
        "date",
        "year",
        "author",
    }
)
"""Fields that beside `text` say where it is from."""

_MAYBE = frozenset({"0", "1", "true", "false"})
_KNOWN = (
    "messages; prompt and completion; instruction, input and output; chosen and rejected; "
    "preferred_output and non_preferred_output; prompt, completion and label; text"
)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The forms that a row may have, and the first line with such a row, and that row's fields."""

    line: int
    fields: tuple[str, ...]


def recognise(
    rows: Sequence[tuple[int, Mapping[str, Any]]], source: str, *, kind: Kind | None = None
) -> Form:
    """Return the one form that every row has; with a `kind`, among the forms of that kind.

    Raises:
        DataError: there is none, or there are several; the message names rows, fields and the option that
            decides.
    """
    everywhere = frozenset(name for _, row in rows for name in _there(row))
    everywhere |= {"label"} if _has_labels(rows, everywhere) else frozenset()
    seen: dict[frozenset[Form], _Seen] = {}
    for line, row in rows:
        forms = _forms(row, everywhere)
        if kind is not None:
            forms = frozenset(form for form in forms if KIND_OF[form] == kind)
        if forms not in seen:
            seen[forms] = _Seen(line, _there(row))
    if frozenset() in seen:
        raise DataError(_unknown(seen[frozenset()], source, kind))
    common = frozenset(FORMS).intersection(*seen)
    if not common:
        raise DataError(_mixed(seen, source))
    if len(common) > 1 or "columns" in common:
        raise DataError(_ambiguous(next(iter(seen.values())), common, source))
    return next(iter(common))


def _has_labels(rows: Sequence[tuple[int, Mapping[str, Any]]], everywhere: AbstractSet[str]) -> bool:
    """Whether beside `text` there is a field of any name whose values are few and come again and again."""
    if "text" not in everywhere:
        return False
    for name in sorted(everywhere - _ABOUT - {"text"}):
        values = [str(value) for _, row in rows if (value := row.get(name)) is not None and value != ""]
        if 2 * len(values) >= len(rows) and len(labels_of(values)) > 1:
            return True
    return False


def _there(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(name for name, value in row.items() if value is not None and value != "")


def _forms(row: Mapping[str, Any], everywhere: AbstractSet[str]) -> frozenset[Form]:
    """Return the forms that a row may have: those it has all fields of, else those it has some of.

    A field that this row lacks and others of its source have (`everywhere`) says nothing here: what it would
    have decided is left open.
    """
    there = frozenset(_there(row))
    whole = {form for form, needs in _NEEDS.items() if there.issuperset(needs)}
    if "rated" in whole:
        whole -= _not_rated_or_not_plain(row["label"])
    elif "prompt-completion" in whole and "label" in everywhere:
        whole.add("rated")
    if whole:
        return frozenset(whole)
    if "text" in there:
        return frozenset({"text", "columns"} if everywhere & _ANSWERS else {"text"})
    parts: dict[Form, tuple[str, ...]] = {
        "preference": ("chosen", "rejected"),
        "openai-preference": ("preferred_output", "non_preferred_output"),
        "instruction": ("instruction",),
        "prompt-completion": ("prompt", "completion"),
    }
    for form, names in parts.items():
        if there.intersection(names):
            lacking = form == "prompt-completion" and isinstance(row.get("label"), bool)
            return frozenset({"rated"}) if lacking else frozenset({form})
    return frozenset()


def _not_rated_or_not_plain(label: Any) -> set[Form]:
    """Return which of the two forms a row with a label can't have; none when it may have both."""
    if isinstance(label, bool):
        return {"prompt-completion"}
    return set() if str(label).strip().lower() in _MAYBE else {"rated"}


def _ambiguous(seen: _Seen, forms: frozenset[Form], source: str) -> str:
    where = f"{source}:{seen.line}: the fields {_listed(seen.fields)} may be"
    if "columns" in forms:
        return (
            f"{where} texts to go on reading from, or prompts with answers. Say --format text for the first; "
            "for the second say which is which: --prompt-column text --completion-column NAME"
        )
    return f"{where} {_either(forms)}. Say which: {' or '.join(f'--format {one}' for one in _ordered(forms))}"


def _unknown(seen: _Seen, source: str, kind: Kind | None) -> str:
    of_kind = f" of {kind}" if kind else ""
    return (
        f"{source}:{seen.line}: the fields {_listed(seen.fields)} are no form{of_kind} that is known. "
        f"Known are {_KNOWN}. Name yours with --prompt-column and --completion-column"
        + (", or leave --kind out" if kind else "")
    )


def _mixed(seen: Mapping[frozenset[Form], _Seen], source: str) -> str:
    (one, first), (other, second) = _disjoint(seen)
    return (
        f"{source}: rows of two forms: line {first.line} is {_either(one)} (fields {_listed(first.fields)}), "
        f"and line {second.line} is {_either(other)} (fields {_listed(second.fields)}). Part them into two "
        "files, or mend the rows; --format says which form is meant"
    )


def _disjoint(
    seen: Mapping[frozenset[Form], _Seen],
) -> tuple[tuple[frozenset[Form], _Seen], tuple[frozenset[Form], _Seen]]:
    """Return two groups of rows with no form in common, or else the first and the last group."""
    groups = list(seen.items())
    for place, group in enumerate(groups):
        for other in groups[place + 1 :]:
            if not group[0] & other[0]:
                return group, other
    return groups[0], groups[-1]


def _ordered(forms: Iterable[Form]) -> list[Form]:
    return sorted(forms, key=FORMS.index)


def _either(forms: Iterable[Form]) -> str:
    return " or ".join(_ordered(forms))


def _listed(fields: Sequence[str]) -> str:
    return ", ".join(map(repr, fields)) or "(none)"
