"""What the gateway has cut, curation takes for cut: by the fleet's own setting."""

import json

import pytest
from typer.testing import CliRunner

from gateway.core.loop import LoopPolicy
from tests.training.curation.conftest import ROUTE, Fleet, prompt, rows
from training.curation.cli import app

VARIABLE = "TURNOUT_RECORDING__MAX_TEXT_CHARS"


def curate(fleet: Fleet, *options: str) -> dict[str, object]:
    """Run the command itself and return its result."""
    folder = fleet.folder / "loop" / "loop-1"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.json").write_text(LoopPolicy(min_new_examples=5, replay_share=0.0).model_dump_json())
    given = [ROUTE, "--run", "loop-1", "--out", str(folder), "--policy", str(folder / "policy.json")]
    done = CliRunner().invoke(app, [*given, "--state-dir", str(fleet.folder), *options])
    assert done.exit_code == 0, done.output
    found: dict[str, object] = json.loads((folder / "curate.json").read_text())
    return found


def test_the_length_at_which_texts_are_cut_is_the_fleets(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the controller tells of it decides which texts are whole; a run keeps to what it began with."""
    for number in range(30):
        fleet.ask(number, answer=f"answer {number} {'x' * 300}"[: 200 if number % 2 else 150])
        fleet.rate(number, value=True)
    monkeypatch.setenv(VARIABLE, "200")
    found = curate(fleet)
    assert found["dropped"] == {"answer_not_whole": 15}
    used = [*rows(fleet, "train"), *rows(fleet, "held_out_new")]
    assert {len(row["messages"][-1]["content"]) for row in used} == {150}
    plan = json.loads((fleet.folder / "loop" / "loop-1" / ".curation" / "plan.json").read_text())
    assert plan["max_text_chars"] == 200
    (fleet.folder / "loop" / "loop-1" / "curate.json").unlink()
    (fleet.folder / "loop" / "loop-1" / ".curation" / "proposed.json").unlink()
    monkeypatch.setenv(VARIABLE, "8000")
    assert curate(fleet)["fingerprint"] == found["fingerprint"]


def test_long_texts_are_whole_where_the_fleet_keeps_them(fleet: Fleet) -> None:
    """More is learned from than the default length of a text, by an option too."""
    for number in range(12):
        fleet.ask(number, prompt=f"{prompt(number)} {'word ' * 2000}", answer=f"answer {number} {'x' * 9000}")
        fleet.rate(number, value=True)
    found = curate(fleet, "--max-text-chars", "16000")
    assert found["proposed"] == 12
    assert "prompt_not_whole" not in str(found["dropped"])
