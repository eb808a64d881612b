"""What the controller starts is what the steps' own command lines take."""

import importlib
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.controller.looping.commands import PROGRAMS, Programs, adapter_of
from tests.gateway.loops import made

MODULES = {
    "curating": "training.curation.cli",
    "training": "training.runs.for_loop",
    "gating": "training.gate.cli",
}


@pytest.mark.slow
@pytest.mark.parametrize("state", MODULES)
def test_a_steps_command_is_one_that_it_takes(state: str) -> None:
    """Every option of the contract is an option of the program, for a champion and for the base model."""
    app: Any = importlib.import_module(MODULES[state]).app
    command = typer.main.get_command(app)
    for champion, best in (("support@1", "support@0"), ("base", None)):
        argv = Programs(Path("/state")).command(
            made.run(state, champion=champion), Path("/state/loop/x"), best="support@7" if best else None
        )
        given = command.make_context("step", argv[len(PROGRAMS[state]) :]).params
        assert given["state_dir" if state != "training" else "out"]
        if state == "training":
            assert (given["name"], given["parent"]) == ("support", "support@1" if best else None)


def test_the_program_of_each_step_is_the_projects_own() -> None:
    """`python -P -m …` of this very interpreter: no folder of the working directory is taken for it."""
    for state, module in (
        ("curating", "training.curation"),
        ("training", "training.runs.for_loop"),
        ("gating", "training.gate"),
    ):
        assert list(PROGRAMS[state][1:]) == ["-P", "-m", module]


@pytest.mark.parametrize(("champion", "name"), [("letters@3", "letters"), ("base", "support")])
def test_which_adapter_gets_a_version(champion: str, name: str) -> None:
    """The champion's own; where the base model answers, one of the route's name."""
    assert adapter_of(made.run(champion=champion)) == name


def test_what_a_step_is_told(tmp_path: Path) -> None:
    """The fleet's places, and none of the secrets that it has no use for; what is missing is named."""
    programs = Programs(
        tmp_path, environment={"TURNOUT_BASE__MODEL": "b"}, installed=lambda name: name != "peft"
    )
    told = programs.told({"PATH": "/bin", "TURNOUT_ADMIN_KEY": "x", "TURNOUT_AUTH__ADMIN_KEY": "x"})
    assert told == {"PATH": "/bin", "TURNOUT_BASE__MODEL": "b", "TURNOUT_STATE_DIR": str(tmp_path)}
    assert programs.missing(made.run("curating")) is None
    assert "peft, which" in str(programs.missing(made.run("training")))
