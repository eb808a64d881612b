"""Configuration files of `turnout train`."""

import tomllib
from pathlib import Path

import pytest

from training.runs.files import options_text, read_options
from training.runs.order import order_of


def written(folder: Path, text: str) -> Path:
    """Write a file and return its path."""
    path = folder / "train.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_options_stand_under_any_or_no_heading(tmp_path: Path) -> None:
    """Dashes and underscores mean the same, and `from` is spelled as on the command line."""
    path = written(
        tmp_path,
        'name = "fruit"\nlearning-rate = 1e-4\n[lora]\nrank = 4\ntarget_modules = "q_proj,v_proj"\n'
        'from = "fruit@1"\n'
        '[judging]\nmetric = ["accuracy"]\n',
    )
    found = read_options(path)
    assert found == {
        "name": "fruit",
        "learning_rate": 1e-4,
        "rank": 4,
        "target_modules": "q_proj,v_proj",
        "from_version": "fruit@1",
        "metric": ["accuracy"],
    }
    assert order_of(found).rank == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rank = ", "is not TOML"),
        ("rnak = 4", "'rnak' is no option; did you mean 'rank'?"),
        ("rank = 4\n[more]\nrank = 8", "'rank' stands there twice"),
        ("resume = 'x'", "'resume' is no option"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, said: str) -> None:
    """A key that would be ignored in silence is an error."""
    with pytest.raises(ValueError, match="--config") as caught:
        read_options(written(tmp_path, text))
    assert said in str(caught.value)


def test_a_missing_file_and_other_encodings_are_named(tmp_path: Path) -> None:
    """The message says which file."""
    with pytest.raises(ValueError, match="there is no such file"):
        read_options(tmp_path / "none.toml")
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "\xe9"')
    with pytest.raises(ValueError, match="not UTF-8"):
        read_options(path)


def test_what_is_printed_can_be_read(tmp_path: Path) -> None:
    """`--print-config` gives a file that orders the same, with headings and without secrets."""
    values = {
        "name": "fruit",
        "source": 'a "quoted" ünï.jsonl',
        "rank": 4,
        "learning_rate": 1e-05,
        "packing": False,
        "metric": ["accuracy", "exact_match"],
        "from_version": "fruit@1",
        "store_url": "postgresql://u:hunter2@db/x",
        "dropout": None,
    }
    text = options_text(values)
    assert "# Method and LoRA" in text
    assert "hunter2" not in text
    assert tomllib.loads(text)["from"] == "fruit@1"
    again = read_options(written(tmp_path, text))
    assert {name: again[name] for name in ("source", "rank", "learning_rate", "packing", "metric")} == {
        name: values[name] for name in ("source", "rank", "learning_rate", "packing", "metric")
    }
