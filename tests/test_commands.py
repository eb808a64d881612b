"""What the documents tell people to type: every command, option and target in them exists."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from gateway.cli.main import build_app

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "docs" / "runbooks").glob("*.md")]
)
_ASSIGNED = re.compile(r"^(?:export\s+)?[A-Z_]+=\S*$")


def typed(text: str) -> Iterator[list[str]]:
    """Yield the words of each `turnout …` in a page's blocks for a shell, from the command's name on."""
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # half of a command, such as a text over several lines
                continue
            while words and _ASSIGNED.match(words[0]):
                words = words[1:]
            if words and words[0] == "turnout":
                yield list(_upto(words[1:], {"|", ">", "&&", "&", ";"}))


def _upto(words: list[str], ends: set[str]) -> Iterator[str]:
    for word in words:
        if word in ends:
            return
        yield word


def unknown(words: list[str]) -> str | None:
    """Return the word that is no command or no option of it; None when all are."""
    command: Any = typer.main.get_command(build_app())
    rest = list(words)
    while rest and hasattr(command, "commands"):
        if rest[0].startswith("-"):
            break
        if rest[0] not in command.commands:
            return rest[0]
        command = command.commands[rest.pop(0)]
    if command.context_settings.get("ignore_unknown_options"):
        return None  # passed on to another program
    options = {option for parameter in command.params for option in parameter.opts} | {"--help"}
    given = [word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)]
    return next((option for option in given if option not in options), None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    """Each command line in a page is one, with options that it has."""
    wrong = [(words, word) for words in typed(page.read_text(encoding="utf-8")) if (word := unknown(words))]
    assert not wrong


def test_targets_exist() -> None:
    """Every `make TARGET` in a page is a target."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for page in [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "loadtests" / "README.md"]:
        text = page.read_text(encoding="utf-8")
        named = set(re.findall(r"`make ([a-z-]+)", text))
        for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
            named |= set(re.findall(r"^make ([a-z-]+)", block, re.MULTILINE))
        assert named <= targets, (page, named - targets)


@pytest.mark.parametrize(
    ("block", "word"),
    [
        ("turnout status --json", None),
        ("TURNOUT_URL=http://x turnout routes show support  # and a comment", None),
        ("turnout usage --since 30d \\\n  --csv > november.csv", None),
        ("turnout statsu", "statsu"),
        ("turnout usage --from 30d", "--from"),
        ("turnout routes shwo x", "shwo"),
    ],
)
def test_what_is_found(block: str, word: str | None) -> None:
    """The check itself finds commands and options that there are not."""
    (words,) = typed(f"```sh\n{block}\n```")
    assert unknown(words) == word
