"""What a check of data found: the values that its report is made of."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from training.data.rows import Kind

Action = Literal["fatal", "dropped", "changed", "noted"]
"""`fatal`: it can't be trained on so. `noted`: nothing was done about it."""

SAMPLE_CHARS = 160


@dataclass(frozen=True, slots=True)
class Sample:
    """One row that a finding is about: its line, and a piece of its text with personal data masked."""

    line: int
    text: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was found: what was done, in how many rows, and why, with a few of them."""

    name: str
    action: Action
    rows: int
    why: str
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long rows are, in `unit`. Of the histogram, `edges` are one more than `counts`.

    `over` rows are longer than `limit`, the most tokens of a row that can be trained on, where it is known.
    """

    unit: Literal["tokens", "characters"]
    median: float
    p95: float
    longest: int
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    limit: int | None = None
    over: int = 0


@dataclass(frozen=True, slots=True)
class SplitBalance:
    """One split: its rows, their median length, and the shares of its labels.

    `gap` is by how many points (hundredths) the share that differs most from the whole data set's differs,
    0 where there are no labels; `chance` is what rows drawn at random stay within 95 times of 100.
    """

    name: str
    rows: int
    median_length: float
    labels: Mapping[str, float] = field(default_factory=dict)
    gap: float = 0.0
    chance: float = 0.0


@dataclass(frozen=True, slots=True)
class CheckReport:
    """Everything that a check found. Counts are rows; `personal` counts what was found, `seconds` the time.

    `labels` are the numbers of rows by label where the data set has labels, `notes` what was not looked at
    and why, `settings` what it was looked at by. `fingerprint` is of the rows that are left,
    `read_fingerprint` of those that were read.
    """

    source: str
    kind: Kind
    rows_read: int
    rows_kept: int
    fingerprint: str
    findings: tuple[Finding, ...] = ()
    lengths: Lengths | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    languages: Mapping[str, int] = field(default_factory=dict)
    personal: Mapping[str, int] = field(default_factory=dict)
    splits: tuple[SplitBalance, ...] = ()
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    read_fingerprint: str | None = None

    @property
    def dropped(self) -> int:
        """How many rows were dropped, each counted once: at the first finding that it fell to."""
        return self.rows_read - self.rows_kept

    @property
    def fatal(self) -> tuple[Finding, ...]:
        """Why it can't be trained on; empty when it can."""
        return tuple(finding for finding in self.findings if finding.action == "fatal")

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {**asdict(self), "rows_dropped": self.dropped, "trainable": not self.fatal}
