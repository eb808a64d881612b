"""`make demo-loop`: drift, training, gate and canary on the real engine, and then with poisoned feedback.

An adapter that was trained on long film reviews serves. Traffic shifts to short ones, on which it is worse.
Scripted users rate and correct its answers; all else is the product: `turnout serve`, the monitor's watch,
the loop's policy, curation, training, gate, canary. Then four crowds lie, and it is said which were stopped,
where, and which were not. Time is compressed by options (`loadtests/demo/plan.py`).
"""

import argparse
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtests.common.processes import end_in_order
from loadtests.common.report import console_for_people, keep_piece, kept_piece, publish
from loadtests.demo.acts import Stage, honest_act, poisoned_act
from loadtests.demo.figures import said, sheet, with_earlier
from loadtests.demo.house import publish_first
from loadtests.demo.judge import write_rows
from loadtests.demo.plan import ADAPTER, QUICK, Plan
from loadtests.demo.poison import CASES
from loadtests.demo.rows import cutter, packaged, pools

BENCH = "demo-loop"
ACTS = ("honest", "poisoned")
FIRST = ("--learning-rate", "5e-4", "--batch-size", "8", "--epochs", "1", "--max-test-rows", "40")


def main(arguments: Sequence[str] | None = None) -> None:
    """Play the acts, print and keep what came of them, and remember it unless asked not to."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="small, to see that all parts fit together")
    parser.add_argument(
        "--act", choices=ACTS, help="play one act; the other one's last figures stand beside it"
    )
    parser.add_argument(
        "--poison", nargs="+", choices=list(CASES), help="only these; `nobody` is the control"
    )
    parser.add_argument("--no-history", action="store_true", help="do not append to RESULTS.md")
    parser.add_argument("--keep", type=Path, help="a folder that gets all files, and keeps them")
    given = parser.parse_args(arguments)
    end_in_order()
    plan = QUICK if given.quick else Plan()
    folder = given.keep.resolve() if given.keep else Path(tempfile.mkdtemp(prefix="turnout-demo-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        found = _played(plan, folder, given)
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    for name, figures in found.items():
        if not given.quick:
            keep_piece(BENCH, name, figures)
    _publish(found, given)


def _played(plan: Plan, folder: Path, given: argparse.Namespace) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    console = console_for_people()
    for act in [given.act] if given.act else ACTS:
        console.rule(act)
        began = time.time()
        stage = set_up(plan, folder, act)
        if act == "honest":
            found[act] = honest_act(stage)
        else:
            found[act] = poisoned_act(stage, given.poison or list(CASES))
            if given.poison:
                found[act] = with_earlier(found[act], kept_piece(BENCH, act))
        found[act] |= {f"{act}_minutes_in_all": round((time.time() - began) / 60, 1), "plan": asdict(plan)}
    return found


def set_up(plan: Plan, folder: Path, act: str) -> Stage:
    """Deal the reviews, train the first version on long ones, and lay aside what is judged by.

    Each act begins with a copy of the same first version, which is trained once in `folder`.
    """
    console = console_for_people()
    dealt = pools(packaged(), cutter())
    taught = write_rows(folder / "taught.jsonl", dealt["old"].deal(plan.taught))
    golden = dealt["old"].deal(plan.golden)
    tests = {
        "old": write_rows(folder / "test_old.jsonl", dealt["old"].deal(plan.tested)),
        "new": write_rows(folder / "test_new.jsonl", dealt["new"].deal(plan.tested)),
    }
    first = _first(folder, taught, console)
    place = _new_place(folder, act)
    shutil.copytree(folder / "first", place / "state")
    return Stage(plan, dealt, first, folder, place, golden, tests, console)


def _first(folder: Path, taught: Path, console: Console) -> str:
    """Return the first version, trained from these rows, unless that was done here before.

    In a folder that was moved it is trained again: its lineage names its rows by their place, and where they
    are not there the loop has nothing to replay.
    """
    mark = folder / "first.json"
    origin = {"taught": hashlib.sha256(taught.read_bytes()).hexdigest(), "folder": str(folder)}
    known = json.loads(mark.read_text(encoding="utf-8")) if mark.is_file() else {}
    if {name: known.get(name) for name in origin} == origin:
        console.print(f"{known['version']} was trained here before")
        return str(known["version"])
    shutil.rmtree(folder / "first", ignore_errors=True)
    began = time.time()
    version = publish_first(folder / "first", taught, name=ADAPTER, options=FIRST)
    mark.write_text(json.dumps({"version": version, **origin}) + "\n", encoding="utf-8")
    console.print(f"{version} is trained on {taught.name} ({time.time() - began:.0f} s)")
    return version


def _new_place(folder: Path, act: str) -> Path:
    """Return a new folder for an act; those of earlier runs stay."""
    taken = len(list(folder.glob(f"{act}*")))
    place = folder / (f"{act}-{taken + 1}" if taken else act)
    place.mkdir()
    return place


def _publish(found: dict[str, dict[str, Any]], given: argparse.Namespace) -> None:
    clean = found.get("honest") or (None if given.quick else kept_piece(BENCH, "honest"))
    lied = found.get("poisoned") or (None if given.quick else kept_piece(BENCH, "poisoned"))
    console = console_for_people()
    if lied is not None:
        for line in said(lied["poison_cases"]):
            console.print(line, highlight=False)
    publish(
        BENCH,
        {**(clean or {}), **(lied or {}), "cpus": os.cpu_count()},
        sheet(clean, lied),
        console=console,
        history=not given.no_history,
        partial=given.quick or clean is None or lied is None or set(lied["poison"]) != set(CASES),
    )


if __name__ == "__main__":
    main()
