"""The documents of `/admin/limits`, and of a key's limits."""

from typing import Annotated, Any

from pydantic import Field

from gateway.api.admin_schemas import Shown, Taken
from gateway.core.limits import MAX_WEIGHT, MOST, Limits, Priority, Scope

Count = Annotated[int | None, Field(ge=1, le=MOST)]


class KeyLimits(Taken):
    """Limits; null is none. Tokens are those of prompts and answers together, as the engine counts them."""

    requests_per_minute: Count = None
    tokens_per_minute: Count = None
    concurrent: Count = Field(default=None, description="requests under way at once, streams and others")
    tokens_per_day: Count = Field(default=None, description="of UTC")
    tokens_per_month: Count = Field(default=None, description="of UTC")
    max_tokens: Count = Field(default=None, description="the largest answer that may be asked for")
    max_body_bytes: Count = None

    def limits(self) -> Limits:
        """Return them as a value."""
        return Limits(**self.model_dump(exclude_none=True))

    def stored(self) -> dict[str, Any] | None:
        """Return the document of a key's row; None for no limits."""
        return self.limits().document() or None


class GivenLimits(KeyLimits):
    """Limits, and a tenant's share of full replicas."""

    weight: Annotated[float, Field(gt=0, le=MAX_WEIGHT)] | None = Field(
        default=None, description="of tenants: the share beside others of weight 1, when replicas are full"
    )
    priority: Priority | None = Field(
        default=None, description="of tenants: high counts as four times the weight, low as a quarter"
    )


class ShownLimits(Shown):
    """Limits as they are stored."""

    requests_per_minute: int | None
    tokens_per_minute: int | None
    concurrent: int | None
    tokens_per_day: int | None
    tokens_per_month: int | None
    max_tokens: int | None
    max_body_bytes: int | None
    weight: float
    priority: Priority


class OwnedLimits(Shown):
    """Somebody's limits. `spent_day` and `spent_month` are the tokens of the present day and month of UTC.

    They are counted while there is a budget, and are a second or so behind.
    """

    scope: Scope
    name: str
    limits: ShownLimits
    spent_day: int | None = None
    spent_month: int | None = None


class LimitPage(Shown):
    """The limits of everybody who has any, by scope and name."""

    data: tuple[OwnedLimits, ...]


def shown(limits: Limits) -> ShownLimits:
    """Return limits as a document."""
    return ShownLimits.model_validate(limits)
