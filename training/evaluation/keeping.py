"""Where reports are kept: beside the registry, under the state directory, since versions never change.

A version is numbered with the evaluation that training made; what is found later is a file of its own,
`evaluations/NAME@N/TIME.json` and `.html`. They hold prompts and answers, and only their owner may read them.
"""

import json
import os
import uuid
from datetime import UTC, datetime
from pathlib import Path

from training.evaluation.page import page
from training.evaluation.report import Report


def keep(report: Report, folder: Path) -> Path:
    """Write both forms of a report into `folder`; return the path of the JSON.

    Raises:
        OSError: they can't be written.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    at = datetime.fromtimestamp(report.created_at, UTC).strftime("%Y%m%dT%H%M%S")
    stem = f"{at}-{uuid.uuid4().hex[:6]}"
    write(folder / f"{stem}.html", page(report))
    path = folder / f"{stem}.json"
    write(path, json.dumps(report.document(), ensure_ascii=False, indent=1) + "\n")
    return path


def write(path: Path, text: str) -> None:
    """Put a file in its place in one step, readable by its owner alone.

    Raises:
        OSError: it can't be written; nothing is left behind.
    """
    scratch = path.with_name(f".tmp-{uuid.uuid4().hex}")
    try:
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)
