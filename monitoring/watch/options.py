"""What whoever starts the watch decides."""

from dataclasses import dataclass

from monitoring.watch.basis import Pinned


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Times are seconds.

    `min_rows`, `min_days`: what a reference needs at least; a subject's prompts of one day count once.
    `reference_rows`: about so many rows of a reference at most, drawn from its whole period in whole runs of
    rows that follow each other. `look_rows`: rows that one look takes of one day at most, drawn one by one;
    the others are passed over. `settle_s`: requests are looked at when they are so old, since a row is
    written when its answer has ended.
    `false_alarms_a_month`: of all watched routes together, while nothing changes.
    `report_every_s`: a report is written at every change of severity from `watch` on, and so often besides;
    `report_rows`: rows of each window in it; `keep_reports`: of each route.
    `every_s`: how often somebody promises to look; None when nobody does.
    `lease_s`: so long after a watcher died another one may look.
    """

    min_rows: int = 2000
    min_days: float = 7.0
    reference_rows: int = 10_000
    look_rows: int = 2000
    settle_s: float = 600.0
    false_alarms_a_month: float = 1.0
    pinned: Pinned | None = None
    report_every_s: float = 86_400.0
    report_rows: int = 1000
    keep_reports: int = 50
    every_s: float | None = None
    lease_s: float = 30.0
