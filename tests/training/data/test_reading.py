"""The reader of training rows."""

from pathlib import Path

import pytest

from training.data.reading import Columns, read
from training.data.rows import DataError

USER = {"role": "user", "content": "hi"}


def write(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a file and return its path."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    ("name", "content", "columns", "rows"),
    [
        ("a.jsonl", '{"prompt": "hi", "completion": "ho"}\n', None, [("hi", "ho", 1)]),
        ("a.jsonl", '\ufeff{"prompt": "hi", "completion": " ho "}', None, [("hi", "ho", 1)]),
        ("a.jsonl", '\n{"prompt": "hi", "completion": "ho"}\n\n', None, [("hi", "ho", 2)]),
        ("a.jsonl", '{"text": "hi", "label": 1}', Columns("text", "label"), [("hi", "1", 1)]),
        (
            "a.jsonl",
            '{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]}',
            None,
            [("hi", "ho", 1)],
        ),
        (
            "a.jsonl",
            '{"messages": "kept as a field", "label": "x"}',
            Columns("messages", "label"),
            [("kept as a field", "x", 1)],
        ),
        ("a.csv", "prompt,completion\nhi,ho\n", None, [("hi", "ho", 2)]),
        (
            "a.csv",
            'label,text\nx,"two\nlines"\ny,z\n',
            Columns("text", "label"),
            [("two\nlines", "x", 2), ("z", "y", 4)],
        ),
        ("a.CSV", "\ufeffprompt,completion,more\nhi,ho,1\n", None, [("hi", "ho", 2)]),
    ],
)
def test_rows_are_read_with_their_lines(
    tmp_path: Path, name: str, content: str, columns: Columns | None, rows: list[tuple[str, str, int]]
) -> None:
    """Every recognised shape gives prompt, answer and the line where the row starts."""
    found = read(write(tmp_path, name, content), columns)
    assert [(row.messages[-1]["content"], row.completion, row.line) for row in found] == rows


def test_a_chat_row_keeps_its_system_message_and_earlier_turns(tmp_path: Path) -> None:
    """Only the last message is the answer; everything before it is the prompt."""
    path = write(
        tmp_path,
        "a.jsonl",
        '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "a"}, '
        '{"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}, '
        '{"role": "assistant", "content": "d"}]}',
    )
    (row,) = read(path)
    assert [message["role"] for message in row.messages] == ["system", "user", "assistant", "user"]
    assert row.completion == "d"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", "", ["a.jsonl holds no rows"]),
        ("a.docx", "x", [".docx", ".jsonl, .json, .csv"]),
        ("a.jsonl", '{"prompt": "hi"}', ["a.jsonl:1", "'completion' is missing", "'prompt'"]),
        (
            "a.jsonl",
            '{"prompt": "a", "completion": "b"}\n{"prompt": "hi",}',
            ["a.jsonl:2", "column", "not JSON"],
        ),
        ("a.jsonl", b'{"prompt": "\xff"}', ["a.jsonl:1", "not UTF-8"]),
        ("a.jsonl", "[1]", ["a.jsonl:1", "must be a JSON object"]),
        ("a.jsonl", '{"prompt": " ", "completion": "b"}', ["a.jsonl:1", "'prompt' is empty"]),
        ("a.jsonl", '{"prompt": "a", "completion": null}', ["a.jsonl:1", "'completion' is missing"]),
        ("a.jsonl", '{"prompt": "a", "completion": true}', ["a.jsonl:1", "'completion' is true or false"]),
        ("a.jsonl", '{"prompt": "a", "completion": 0.5}', ["'completion' is a fraction"]),
        ("a.jsonl", '{"prompt": ["a"], "completion": "b"}', ["'prompt[0]' is a string"]),
        ("a.jsonl", '{"messages": []}', ["a.jsonl:1", "'messages'", "at least two"]),
        ("a.jsonl", '{"messages": [1, 2]}', ["'messages[0]' is a number"]),
        (
            "a.jsonl",
            '{"prompt": "\\ud83d", "completion": "b"}',
            ["a.jsonl:1", "'prompt'", "half a character"],
        ),
        ("a.jsonl", '{"prompt": ' + "[" * 100_000, ["a.jsonl:1", "can't be read as JSON"]),
        ("a.jsonl", '{"prompt": ' + "1" * 5_000 + "}", ["a.jsonl:1", "can't be read as JSON"]),
        ("a.jsonl", '{"a": "b"}', ["a.jsonl:1", "'a'", "no form", "--prompt-column"]),
        (
            "a.jsonl",
            '{"messages": [{"role": "bot", "content": "a"}, {"role": "assistant", "content": "b"}]}',
            ["'messages[0]'", "role is 'bot'"],
        ),
        (
            "a.jsonl",
            '{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}',
            ["the last message must be the assistant's"],
        ),
        ("a.csv", "text,label\na,b\n", ["a.csv:2", "'text', 'label'", "--prompt-column"]),
        ("a.csv", "prompt;completion\na;b\n", ["a.csv:1", "'prompt;completion'", "a comma"]),
        ("a.csv", "prompt,completion\na,b,c\n", ["a.csv:2", "3 fields", "the header 2"]),
        ("a.csv", b"\xff\xfep\x00", ["a.csv is UTF-16"]),
        ("a.csv", "prompt,prompt,completion\na,b,c\n", ["2 columns named 'prompt'"]),
        ("a.csv", "prompt,completion\na\n", ["a.csv:2", "'completion' is missing"]),
        ("a.csv", 'prompt,completion\na,"b\n', ["a.csv", "not valid CSV"]),
        ("a.csv", b"prompt,completion\n\xff,b\n", ["a.csv", "not UTF-8"]),
        ("a.csv", "", ["a.csv:1", "nothing"]),
    ],
)
def test_faults_name_file_line_and_field(
    tmp_path: Path, name: str, content: str | bytes, said: list[str]
) -> None:
    """A file that can't be trained on is refused with what to look at."""
    with pytest.raises(DataError) as caught:
        read(write(tmp_path, name, content))
    for part in said:
        assert part in str(caught.value)


def test_a_missing_file_is_said_to_be_missing(tmp_path: Path) -> None:
    """A path that is no file names itself."""
    with pytest.raises(DataError, match=r"nowhere\.jsonl is not a file"):
        read(tmp_path / "nowhere.jsonl")


def test_many_faults_are_counted_and_the_first_five_shown(tmp_path: Path) -> None:
    """Faulty rows are collected, so that a file is mended in one round."""
    path = write(tmp_path, "a.jsonl", '{"prompt": "a"}\n' * 8)
    with pytest.raises(DataError) as caught:
        read(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 6
    assert lines[4].startswith(f"{path}:5:")
    assert lines[5] == "and 3 more faulty rows"
