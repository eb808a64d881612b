"""`turnout data check` on the command line."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.training.data.test_prepare import labelled, written
from training.data.cli import app

pytestmark = pytest.mark.usefixtures("light")


def run(*arguments: str) -> tuple[int, str, str]:
    """Run the command and return its exit code, output and errors."""
    done = CliRunner().invoke(app, ["check", *arguments])
    return done.exit_code, done.stdout, done.stderr


def test_a_source_that_can_be_trained_on_ends_with_0(tmp_path: Path) -> None:
    """The report says what was dropped and how the splits came out; nothing is written."""
    some = labelled(100)
    source = written(tmp_path, [*some, some[3]])
    code, said, _ = run(source)
    assert code == 0
    assert "101 examples read, 1 dropped, 100 kept: can be trained on" in " ".join(said.split())
    assert "line 101 [as line 4]" in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_json_has_all_of_it(tmp_path: Path) -> None:
    """One object on standard output, and nothing else."""
    code, said, errors = run(written(tmp_path, labelled(100)), "--json")
    document = json.loads(said)
    assert (code, errors) == (0, "")
    assert document["trainable"] is True
    assert [part["name"] for part in document["splits"]] == ["train", "validation", "test"]


def test_a_source_that_can_not_be_trained_on_ends_with_2_and_a_report(tmp_path: Path) -> None:
    """What was found on the way is shown all the same."""
    code, said, errors = run(written(tmp_path, labelled(1) * 9))
    assert code == 2
    assert "copies" in said
    assert "one of 9 rows is left" in errors.replace("\n", " ")


def test_fixed_rows_and_a_page_are_written(tmp_path: Path) -> None:
    """The cleaned rows check clean, with columns masked too."""
    some = [{**row, "mail": "a@b.example"} for row in labelled(100)]
    fixed, page = tmp_path / "fixed.jsonl", tmp_path / "report.html"
    code, _, _ = run(written(tmp_path, [*some, some[0]]), "--fix", str(fixed), "--html", str(page))
    assert code == 0
    assert "a@b.example" not in fixed.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    code, said, _ = run(str(fixed), "--json")
    assert code == 0
    assert json.loads(said)["rows_dropped"] == 0
    assert run(str(fixed), "--fix", str(fixed))[0] == 2


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--max-tokens", "100"], "--max-tokens needs --tokenizer"),
        (["--near", "0.1"], "--near 0.1"),
        (["--test-share", "1"], "--test-share 1"),
        (["--since", "yesterday"], "'yesterday' is neither"),
        (["--resample", "up", "--resample-cap", "0"], "--resample-cap is 0"),
        (["--group", "nobody"], "--group 'nobody' is missing"),
        (["--kind", "rated"], "no form of rated"),
        (["--format", "chat"], "'messages' must be a list"),
        (["--held-out", "nowhere.jsonl"], "nowhere.jsonl is not a file"),
    ],
)
def test_wrong_options_end_with_2_and_say_which(tmp_path: Path, options: list[str], said: str) -> None:
    """A mistake of the caller is no traceback."""
    code, _, errors = run(written(tmp_path, labelled(60)), *options)
    assert code == 2
    assert said in errors.replace("\n", " ")


def test_recorded_traffic_without_a_store_says_where_it_looked(tmp_path: Path) -> None:
    """No database is made by looking."""
    code, _, errors = run("turnout:support", "--state-dir", str(tmp_path / "state"))
    assert code == 1
    assert "there is no control database" in errors
    assert not (tmp_path / "state").exists()
