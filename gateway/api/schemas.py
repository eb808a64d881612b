"""The documents of the endpoints under `/v1` that are not the hot path."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.core.refs import NAME_PATTERN

MetricName = Annotated[str, Field(pattern=rf"^{NAME_PATTERN}$")]


class FeedbackIn(BaseModel):
    """A rating of one answer: one `metric` with its `value`, or several as `metrics`.

    `request_id` is the header `x-request-id` or the id in the answer's body.
    """

    model_config = ConfigDict(extra="forbid")

    request_id: Annotated[str, Field(min_length=1, max_length=128)]
    metric: MetricName | None = None
    value: Any = Field(
        default=None, description="a bool, a number or a string; for `demonstration`, the right answer"
    )
    metrics: dict[MetricName, Any] | None = Field(
        default=None, min_length=1, max_length=32, description="values by metric, in place of a single one"
    )
    comment: Annotated[str, Field(max_length=2000)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        single = {"metric", "value"} & self.model_fields_set
        if "metrics" in self.model_fields_set:
            if single or self.metrics is None:
                raise ValueError("give either 'metric' with 'value', or 'metrics' with values by name")
        elif single != {"metric", "value"} or self.metric is None:
            raise ValueError("'metric' and 'value' are needed, or 'metrics' with values by name")
        return self

    @property
    def values(self) -> dict[str, Any]:
        """What was given, by metric."""
        return {self.metric: self.value} if self.metric is not None else dict(self.metrics or {})


class FeedbackOut(BaseModel):
    """What was stored, and to what it was attributed. `metric` is null when several were given."""

    object: Literal["feedback"] = "feedback"
    request_id: str
    metric: str | None
    metrics: tuple[str, ...]
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


class AnthropicModel(BaseModel):
    """One name in Anthropic's form."""

    type: Literal["model"] = "model"
    id: str
    display_name: str
    created_at: str


class AnthropicModelList(BaseModel):
    """A page of them; with `has_more`, `last_id` goes into the next call's `after_id`."""

    data: list[AnthropicModel]
    has_more: bool
    first_id: str | None
    last_id: str | None
