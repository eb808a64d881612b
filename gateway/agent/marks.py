"""What each blob of an agent is kept for: the engine incarnation that last asked for it, and when.

A file beside the blobs, written whole and renamed into place, so that an agent that starts again knows what
the engine beside it may still read.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

FILE = "agent.json"


@dataclass(frozen=True, slots=True)
class Mark:
    """Who asked last. `incarnation` None: nobody knows, so whatever engine runs now may read it."""

    incarnation: str | None
    asked_at: float


class Marks:
    """The marks by blob, on disk."""

    def __init__(self, root: Path) -> None:
        self._path = root / FILE
        self._marks = _read(self._path)

    def get(self, name: str) -> Mark:
        """Return a blob's mark."""
        return self._marks.get(name, Mark(None, 0.0))

    def set(self, name: str, mark: Mark) -> None:
        """Note who asks for a blob. On disk at once when that is another incarnation; times alone can wait.

        Raises:
            OSError: it can't be written. Then nothing may be loaded on the strength of it.
        """
        before = self._marks.get(name)
        self._marks[name] = mark
        if before is None or before.incarnation != mark.incarnation:
            self._write()

    def drop(self, name: str) -> None:
        """Forget a blob that is gone."""
        if self._marks.pop(name, None) is not None:
            self._write()

    def _write(self) -> None:
        beside = self._path.with_suffix(".part")
        document = {name: [mark.incarnation, mark.asked_at] for name, mark in self._marks.items()}
        with beside.open("w", encoding="utf-8") as file:
            json.dump(document, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)


def _read(path: Path) -> dict[str, Mark]:
    """Return what is stored. A file that can't be read says nothing, and then nothing is let go."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {
            str(name): Mark(None if incarnation is None else str(incarnation), float(at))
            for name, (incarnation, at) in document.items()
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
