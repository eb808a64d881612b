"""Judges versions after `make demo-loop` on rows that no part of the loop has seen: by `turnout evaluate`."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from loadtests.common.machine import ROOT
from loadtests.common.processes import StartFailed, clean_environment
from loadtests.demo.figures import Share, accuracy_of
from loadtests.demo.rows import Review

JUDGE_S = 2400.0


def write_rows(path: Path, reviews: Sequence[Review]) -> Path:
    """Write reviews as rows that training and evaluation read."""
    text = "".join(json.dumps(review.row, ensure_ascii=False) + "\n" for review in reviews)
    path.write_text(text, encoding="utf-8")
    return path


def judged(state_dir: Path, versions: Sequence[str], rows: Path) -> dict[str, Any]:
    """Return what `turnout evaluate` says of versions on rows.

    Raises:
        StartFailed: it could not judge.
    """
    command = [sys.executable, "-m", "training.evaluation.cli", *versions, str(rows), "--json"]
    command += ["--no-baselines", "--parity", "off", "--no-keep", "--state-dir", str(state_dir)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**clean_environment(), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        timeout=JUDGE_S,
        check=False,
    )
    if done.returncode:
        raise StartFailed(f"the versions were not judged: exit code {done.returncode}")
    return dict(json.loads(done.stdout))


def accuracies(
    state_dir: Path, versions: Sequence[str], sets: Mapping[str, Path]
) -> dict[str, dict[str, Share]]:
    """Return each version's accuracy on each set."""
    found: dict[str, dict[str, Share]] = {version: {} for version in versions}
    for name, rows in sets.items():
        document = judged(state_dir, versions, rows)
        for version in versions:
            found[version][name] = accuracy_of(document, version)
    return found
