"""The documents of the endpoints under `/v1` that are not the hot path."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.core.refs import NAME_PATTERN


class FeedbackIn(BaseModel):
    """A rating of one answer. `request_id` is the header `x-request-id` or the id in the answer's body."""

    model_config = ConfigDict(extra="forbid")

    request_id: Annotated[str, Field(min_length=1, max_length=128)]
    metric: Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]
    value: Any = Field(description="a bool, a number or a string; for `demonstration`, the right answer")
    comment: Annotated[str, Field(max_length=2000)] | None = None


class FeedbackOut(BaseModel):
    """What was stored, and to what it was attributed."""

    object: Literal["feedback"] = "feedback"
    request_id: str
    metric: str
    route: str | None
    adapter: str
    arm: str | None


class ModelCard(BaseModel):
    """One name that a request's `model` may have. `ready` tells whether it is served now."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["turnout"] = "turnout"
    parent: str | None = None
    kind: Literal["route", "version", "base"]
    ready: bool


class ModelList(BaseModel):
    """A page of them; with `has_more`, `last_id` goes into the next call's `after`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
    has_more: bool = False
    last_id: str | None = None
