"""The runbooks: each has its three parts, and the commands and addresses in them exist."""

import re
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway.app import create_app
from gateway.cli.main import build_app
from gateway.settings import Settings
from tests.monitoring.ops import shown

PAGES = shown.pages()
RUNBOOKS = {name: text for name, text in PAGES.items() if name not in ("README", "operations")}


@pytest.mark.parametrize("name", RUNBOOKS)
def test_a_runbook_has_its_parts(name: str) -> None:
    """Each says what the alert means, how to look and what to do, and belongs to an alert."""
    assert re.findall(r"^## (.*)$", RUNBOOKS[name], re.MULTILINE) == [
        "What it means",
        "How to look",
        "What to do",
    ]
    named = {rule["annotations"]["runbook_url"] for rules in shown.alerts().values() for rule in rules}
    assert f"docs/runbooks/{name}.md" in named


def test_commands_exist() -> None:
    """Every `turnout …` in a page is a command with these options."""
    program = typer.main.get_command(build_app())
    for name, text in PAGES.items():
        for written in re.findall(r"`turnout ([^`]+)`", text):
            words = written.split()
            command: Any = program
            while words and hasattr(command, "commands"):
                assert words[0] in command.commands, (name, written)
                command = command.commands[words.pop(0)]
            if command.context_settings.get("ignore_unknown_options"):
                continue  # passed on to another program
            options = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= options, (name, written)


def test_addresses_exist(tmp_path: Path) -> None:
    """Every `GET /…` in a page is one of the gateway's."""
    paths = {getattr(route, "path", "") for route in create_app(Settings(state_dir=tmp_path)).routes}
    for name, text in PAGES.items():
        for written in re.findall(r"`GET (/[^`?]+)", text):
            assert written in paths, (name, written)


def test_links_lead_somewhere() -> None:
    """Every link to a file of the project leads to one."""
    for name, text in PAGES.items():
        folder = shown.RUNBOOKS.parent if name == "operations" else shown.RUNBOOKS
        for target in re.findall(r"\]\(([^)#:]+)(?:#[\w-]*)?\)", text):
            assert (folder / target).exists(), (name, target)
