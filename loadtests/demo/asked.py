"""Requests that the first version answered in an act before: a later act rates them, and asks none twice."""

import json
import shutil
import sqlite3
from collections.abc import Iterable
from pathlib import Path

from loadtests.demo.people import Visit
from loadtests.demo.traffic import Answered

DATABASE = "requests.db"


def keep_asked(state_dir: Path, place: Path) -> None:
    """Keep a stopped service's requests, unless those of an act before are there."""
    if place.is_dir():
        return
    scratch = place.with_suffix(".tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for path in state_dir.glob(f"{DATABASE}*"):
        shutil.copy2(path, scratch)
    scratch.rename(place)


def lay_asked(place: Path, state_dir: Path) -> None:
    """Give the kept requests, if there are any, to a service that has not begun yet."""
    if place.is_dir():
        shutil.copytree(place, state_dir, dirs_exist_ok=True)


def answered_by(state_dir: Path, version: str, visits: Iterable[Visit]) -> dict[str, Answered]:
    """Return by subject which of these visits a version has answered already, told by what is asked."""
    path = state_dir / DATABASE
    if not path.is_file():
        return {}
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        rows = connection.execute(
            "SELECT id, prompt, answer FROM requests WHERE adapter = ? AND status = 200 AND internal = 0 "
            "AND prompt IS NOT NULL AND answer IS NOT NULL",
            (version,),
        ).fetchall()
    finally:
        connection.close()
    found = {_asked(prompt): Answered(request_id, answer) for request_id, prompt, answer in rows}
    return {visit.subject: found[visit.review.prompt] for visit in visits if visit.review.prompt in found}


def _asked(prompt: str) -> str:
    """Return what a recorded prompt asks: of a conversation the last turn."""
    try:
        turns = json.loads(prompt)
    except ValueError:
        return prompt
    return str(turns[-1]["content"]) if isinstance(turns, list) and turns else prompt
