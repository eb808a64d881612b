"""The README's tour as data: its headings, and the blocks a reader would type, in order."""

import re
from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"
SECTION = "## Five-minute tour"
_BLOCK = re.compile(r"^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.DOTALL | re.MULTILINE)
TYPED = {"sh", "python"}


@dataclass(frozen=True)
class Step:
    """One block of the tour under its heading."""

    heading: str
    language: str
    code: str


def steps(text: str) -> list[Step]:
    """Return the blocks of the tour that a reader types; blocks of other languages show output."""
    _, _, rest = text.partition(f"\n{SECTION}\n")
    section = re.split(r"^## ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    found = []
    heading = SECTION.removeprefix("## ")
    for part in re.split(r"^### ", section, flags=re.MULTILINE):
        first, _, body = part.partition("\n")
        heading = first.strip() or heading
        found += [
            Step(heading, match["language"], match["code"])
            for match in _BLOCK.finditer(body if first.strip() else part)
            if match["language"] in TYPED
        ]
    return found
