"""The settings of what goes on beside serving: logs, how long rows are kept, the drift monitor, the loop."""

from typing import Literal

from pydantic import Field

from gateway.server_settings import Seconds, Section


class LogSettings(Section):
    """What is logged, and how (docs/operations.md). `auto` is text on a terminal and JSON elsewhere."""

    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class RetentionSettings(Section):
    """How long rows are kept, in hours; 0 keeps them. Events are never removed (docs/operations.md)."""

    requests_h: float = Field(default=2160.0, ge=0, description="recorded requests, with captured texts")
    feedback_h: float = Field(default=0.0, ge=0, description="ratings")
    drift_h: float = Field(default=2160.0, ge=0, description="verdicts on drift, but a route's newest")


class MonitoringSettings(Section):
    """How large the windows of `turnout monitor run` are; what `turnout monitor watch` needs and promises.

    `reference_rows` (one a subject and day) and `reference_days`: what a reference of the watch needs.
    `false_alarms_a_month`: of all routes together. `embedding_model`: a folder or a name; None for the one in
    the wheel. `keep_reports`: of each route.
    """

    min_rows: int = Field(default=50, ge=10)
    max_rows: int = Field(default=1000, ge=10)
    reference_rows: int = Field(default=2000, ge=40)
    reference_days: float = Field(default=7, ge=0, le=366)
    false_alarms_a_month: float = Field(default=1, ge=0.001, le=1000)
    embedding_model: str | None = None
    keep_reports: int = Field(default=50, ge=1, le=10_000)


class LoopSettings(Section):
    """The loop of this fleet: see docs/loop.md. What a route's loop does is in the route's spec.

    `watch` has the controller run the drift monitor; without it, somebody else runs `turnout monitor watch`.
    """

    watch: bool = False
    watch_every_s: float = Field(
        default=300.0, gt=0, le=86_400.0, description="between two looks of the monitor"
    )
    every_s: Seconds = Field(default=2.0, description="how often runs are looked at")
    at_once: int = Field(default=1, ge=1, le=1000, description="runs that curate, train or gate at a time")
    min_free_gib: float = Field(default=2.0, ge=0, description="of the disk, to begin a step")
