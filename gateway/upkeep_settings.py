"""The settings of what runs beside serving: how it is logged, and how long rows are kept."""

from typing import Literal

from pydantic import Field

from gateway.server_settings import Section


class LogSettings(Section):
    """What is logged, and how (docs/operations.md). `auto` is text on a terminal and JSON elsewhere."""

    format: Literal["auto", "json", "text"] = "auto"
    level: Literal["debug", "info", "warning", "error"] = "info"


class RetentionSettings(Section):
    """How long rows are kept, in hours; 0 keeps them. Events are never removed (docs/operations.md)."""

    requests_h: float = Field(default=2160.0, ge=0, description="recorded requests, with captured texts")
    feedback_h: float = Field(default=0.0, ge=0, description="ratings")
    drift_h: float = Field(default=2160.0, ge=0, description="verdicts on drift, but a route's newest")
