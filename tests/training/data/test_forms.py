"""The forms that rows are recognised by, and what is refused as ambiguous or mixed."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from training.data.parsing import Columns
from training.data.reading import read_dataset
from training.data.rows import DataError, Example, Kind, Preference, Rated, Row, Text

HI = {"role": "user", "content": "hi"}
HO = {"role": "assistant", "content": "ho"}
NO = {"role": "assistant", "content": "no"}


def written(folder: Path, rows: Sequence[object]) -> str:
    """Write rows as JSON Lines and return the path."""
    path = folder / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def example(said: str = "ho", *before: Mapping[str, str], **columns: str) -> Example:
    """Return the example that most cases stand for."""
    return Example(tuple(map(dict, before)) or (HI,), said, 1, columns)


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ({"messages": [HI, HO]}, example()),
        ({"messages": [HI, HO], "lang": "en", "n": 3, "x": None}, example(lang="en", n="3")),
        (
            {"messages": [{"role": "developer", "content": "s"}, HI, HO], "parallel_tool_calls": True},
            example("ho", {"role": "system", "content": "s"}, HI),
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}, HO]},
            example(),
        ),
        ({"prompt": "hi", "completion": "ho", "label": "x"}, example(label="x")),
        ({"prompt": "hi", "completion": "ho", "text": "hi ho"}, example(text="hi ho")),
        ({"prompt": [HI], "completion": [HO]}, example()),
        ({"prompt": "ignored", "messages": [HI, HO]}, example(prompt="ignored")),
        ({"instruction": "hi", "output": "ho"}, example()),
        ({"instruction": "hi", "input": "", "output": "ho"}, example()),
        (
            {"instruction": "a", "input": "b", "output": "ho", "text": "all"},
            example("ho", {"role": "user", "content": "a\n\nb"}, text="all"),
        ),
        (
            {"system": "s", "instruction": "hi", "output": "ho"},
            example("ho", {"role": "system", "content": "s"}, HI),
        ),
        (
            {"prompt": "hi", "chosen": "ho", "rejected": "no", "s": 0.5},
            Preference((HI,), "ho", "no", 1, {"s": "0.5"}),
        ),
        ({"prompt": [HI], "chosen": [HO], "rejected": [NO]}, Preference((HI,), "ho", "no", 1)),
        ({"chosen": [HI, HO], "rejected": [HI, NO]}, Preference((HI,), "ho", "no", 1)),
        ({"prompt": "hi", "chosen": [HI, HO], "rejected": [HI, NO]}, Preference((HI,), "ho", "no", 1)),
        (
            {
                "input": {"messages": [HI], "tools": []},
                "preferred_output": [HO],
                "non_preferred_output": [NO],
            },
            Preference((HI,), "ho", "no", 1),
        ),
        ({"prompt": "hi", "completion": "ho", "label": True}, Rated((HI,), "ho", True, 1)),
        ({"prompt": [HI], "completion": [HO], "label": False}, Rated((HI,), "ho", False, 1)),
        ({"text": "all of it", "source": "book"}, Text("all of it", 1, {"source": "book"})),
    ],
)
def test_each_form_is_recognised(tmp_path: Path, row: dict[str, Any], wanted: Row) -> None:
    """A row's fields say its form, and every other field is kept as a column."""
    found = read_dataset(written(tmp_path, [row]))
    assert found.rows == (wanted,)


AMBIGUOUS: list[tuple[list[dict[str, Any]], list[str]]] = [
    (
        [{"prompt": "a", "completion": "b", "label": 1}],
        ["'label'", "--format prompt-completion", "--format rated"],
    ),
    ([{"prompt": "a", "completion": "b", "label": "true"}], ["prompt-completion or rated"]),
    ([{"text": "a", "label": "b"}], ["'text', 'label'", "--format text", "--completion-column"]),
    (
        [{"messages": [HI, HO], "prompt": "a", "completion": "b"}],
        ["--format chat or --format prompt-completion"],
    ),
    ([{"messages": [HI, HO], "chosen": "a", "rejected": "b"}], ["chat or preference"]),
    (
        [{"prompt": "a", "completion": "b", "chosen": "b", "rejected": "c"}],
        [
            "a.jsonl:1: the fields 'prompt', 'completion', 'chosen', 'rejected' may be",
            "Say which: --format prompt-completion or --format preference",
        ],
    ),
    (
        [{"prompt": "a", "completion": "b", "label": True, "chosen": "b", "rejected": "c"}],
        ["--format preference or --format rated"],
    ),
]
AMBIGUOUS += [  # a field that one row lacks decides nothing by that
    ([{"text": "a", "label": "b"}, {"text": "c", "label": None}], ["'text', 'label'", "--format text"]),
    (
        [{"prompt": "a", "completion": "b", "label": 0}, {"prompt": "a", "completion": "b", "label": None}],
        ["prompt-completion or rated"],
    ),
]
MIXED: list[tuple[list[dict[str, Any]], list[str]]] = [
    (
        [{"messages": [HI, HO]}, {"text": "a"}],
        ["two forms", "line 1 is chat", "line 2 is text", "'messages'"],
    ),
    (
        [{"prompt": "a", "completion": "b", "label": True}, {"prompt": "a", "completion": "c"}],
        ["a.jsonl:2: field 'label' is missing"],
    ),
    (
        [{"prompt": "a", "completion": "b", "label": ""}, {"prompt": "a", "completion": "c", "label": False}],
        ["a.jsonl:1: field 'label'"],
    ),
    (
        [{"prompt": "a", "completion": "b", "label": "x"}, {"prompt": "a", "completion": "c", "label": True}],
        ["line 1 is prompt-completion", "line 2 is rated"],
    ),
    ([{"prompt": "a", "chosen": "b", "rejected": "c"}, {"prompt": "a", "completion": "c"}], ["two forms"]),
]


@pytest.mark.parametrize(("rows", "said"), AMBIGUOUS + MIXED)
def test_what_may_be_read_in_two_ways_is_refused(
    tmp_path: Path, rows: list[dict[str, Any]], said: list[str]
) -> None:
    """The message names the file, the line, the fields and the option that decides."""
    with pytest.raises(DataError) as caught:
        read_dataset(written(tmp_path, rows))
    assert "a.jsonl" in str(caught.value)
    for part in said:
        assert part in str(caught.value)


def test_a_field_of_any_name_may_be_the_answer_to_a_text(tmp_path: Path) -> None:
    """Values that are few and come again are labels; where a text is from is none, nor is a title."""
    texts = [{"text": f"t{number}", "stars": number % 2, "lang": "xy"[number % 2]} for number in range(40)]
    with pytest.raises(DataError, match="--format text for the first"):
        read_dataset(written(tmp_path, texts))
    assert read_dataset(written(tmp_path, texts), kind="texts").kind == "texts"
    for row in texts:
        row["stars"] = f"title of {row['text']}"
    assert read_dataset(written(tmp_path, texts)).kind == "texts"


def test_one_row_may_decide_for_all(tmp_path: Path) -> None:
    """Labels of 0 and 1 are open; one that is true among them says that they are ratings."""
    rows = [{"prompt": f"p{value}", "completion": "b", "label": value} for value in (1, 0, True)]
    assert read_dataset(written(tmp_path, rows)).kind == "rated"
    rows[2]["label"] = "spam"
    assert read_dataset(written(tmp_path, rows)).kind == "examples"


@pytest.mark.parametrize(
    ("rows", "options", "kind"),
    [
        ([{"prompt": "a", "completion": "b", "label": "1"}], {"form": "rated"}, "rated"),
        ([{"prompt": "a", "completion": "b", "label": "1"}], {"form": "prompt-completion"}, "examples"),
        ([{"prompt": "a", "completion": "b", "label": "0"}], {"kind": "rated"}, "rated"),
        ([{"text": "a", "label": "b"}], {"kind": "texts"}, "texts"),
        ([{"text": "a", "label": "b"}], {"columns": Columns("text", "label")}, "examples"),
        ([{"messages": [HI, HO], "chosen": "a", "rejected": "b"}], {"kind": "examples"}, "examples"),
        (
            [{"prompt": "a", "completion": "b", "chosen": "b", "rejected": "c"}],
            {"form": "preference"},
            "preferences",
        ),
        (
            [{"prompt": "a", "completion": "b", "chosen": "b", "rejected": "c"}],
            {"kind": "examples"},
            "examples",
        ),
        (  # a row that has no answer but the two decides for all
            [
                {"prompt": "a", "completion": "b", "chosen": "b", "rejected": "c"},
                {"prompt": "d", "chosen": "b", "rejected": "c"},
            ],
            {},
            "preferences",
        ),
        (
            [{"q": "a", "up": "b", "down": "c"}],
            {"kind": "preferences", "columns": Columns("q", chosen="up", rejected="down")},
            "preferences",
        ),
        (
            [{"q": "a", "a": "b", "ok": True}],
            {"kind": "rated", "columns": Columns("q", "a", liked="ok")},
            "rated",
        ),
        ([{"body": "a"}], {"kind": "texts", "columns": Columns("body")}, "texts"),
    ],
)
def test_options_decide(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], kind: Kind
) -> None:
    """What fields leave open is decided by --format, --kind or the columns' names."""
    assert read_dataset(written(tmp_path, rows), **options).kind == kind


@pytest.mark.parametrize(
    ("row", "options", "said"),
    [
        ({"messages": [HI, HO]}, {"kind": "rated"}, "no form of rated"),
        ({"messages": [HI, HO]}, {"kind": "rated", "form": "chat"}, "--kind asks for rated"),
        ({"prompt": "a", "completion": "b", "label": "maybe"}, {"form": "rated"}, "'label' is 'maybe'"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, {}, "the same answer"),
        ({"chosen": "a", "rejected": "b"}, {}, "where the answer begins is unknown"),
        ({"chosen": [HI, HO], "rejected": [HO, NO]}, {}, "share no prompt"),
        ({"prompt": "x", "chosen": [HI, HO], "rejected": [HI, NO]}, {}, "not those of the prompt"),
        ({"prompt": "x", "chosen": "b"}, {}, "'rejected' is missing"),
        ({"prompt": [HO], "completion": "b"}, {}, "must not be the assistant's"),
        ({"instruction": "x"}, {}, "'output' is missing"),
        ({"instruction": "x", "output": "y", "input": 3}, {}, "'input' is a number"),
        ({"instruction": "x", "output": "y", "history": [["a", "b"]]}, {}, "earlier turns"),
        (
            {
                "input": {"messages": [HI], "tools": [1]},
                "preferred_output": [HO],
                "non_preferred_output": [NO],
            },
            {},
            "calls of tools",
        ),
        ({"messages": [HI, HO], "tools": [{}]}, {}, "calls of tools"),
        ({"messages": [HI, {"role": "assistant", "tool_calls": [1]}, HO]}, {}, "'messages[1]' is of a tool"),
        ({"messages": [HI, {"role": "tool", "content": "x"}, HO]}, {}, "'messages[1]' is of a tool"),
        ({"messages": [HI, {**HO, "weight": 0}]}, {}, "weight 0"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}, HO]}, {}, "only text is trained"),
        ({"prompt": "a", "completion": "b", "w": 0}, {"columns": Columns(weight="w")}, "'w' is 0"),
        ({"prompt": "a", "completion": "b", "w": "x"}, {"columns": Columns(weight="w")}, "above 0"),
        ({"prompt": "a", "completion": "b"}, {"columns": Columns(weight="w")}, "'w' is missing"),
    ],
)
def test_faults_of_rows_name_the_field(
    tmp_path: Path, row: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    """What can't be trained on is refused with its line, its field and the reason."""
    with pytest.raises(DataError) as caught:
        read_dataset(written(tmp_path, [row]), **options)
    assert "a.jsonl:1: " in str(caught.value) or "--kind" in str(caught.value)
    assert said in str(caught.value)


def test_a_weight_is_read_from_its_column_and_is_no_column(tmp_path: Path) -> None:
    """The form is still recognised by the other fields."""
    found = read_dataset(written(tmp_path, [{"messages": [HI, HO], "w": "2.5"}]), columns=Columns(weight="w"))
    assert found.rows == (Example((HI,), "ho", 1, {}, 2.5),)
