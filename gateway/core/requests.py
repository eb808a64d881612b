"""The values that the stages of a request exchange."""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from gateway.core.refs import BASE, VersionRef
from gateway.core.scopes import Scope

MAX_TEXT_CHARS = 8_000
"""By default, the length at which texts are cut when they are recorded."""


class Role(StrEnum):
    """What a key may do. `trainer`: add adapters and look at them, and nothing else of `/admin`.

    `internal`: mark requests as its own, so that no experiment counts them.
    """

    INFERENCE = "inference"
    FEEDBACK = "feedback"
    TRAINER = "trainer"
    ADMIN = "admin"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who calls: the key's id (never the key), its tenant, its roles and its label.

    `scope` is what it may use, None for everything. `infers`: whether it may ask engines.
    (`infers` is worked out once, since an enum's hash is a call each time.)
    """

    key_id: str
    tenant: str
    roles: frozenset[Role]
    name: str = ""
    scope: Scope | None = None
    infers: bool = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "infers", Role.INFERENCE in self.roles)


class Target(NamedTuple):
    """What a requested model resolved to.

    `engine_model` is the name that the engine answers to; `route` and `arm` are None for a pinned
    version and for the base model; `probability` is the chance that this arm had.
    `unit` is the hash of the sticky subject, or None when the arm was drawn for this request alone.
    `shadow` is the version that answers once more, for nobody, when the client has its answer.
    (A tuple, since a frozen dataclass takes four times as long to make.)
    """

    requested: str
    engine_model: str
    adapter: VersionRef | None
    route: str | None = None
    arm: str | None = None
    probability: float = 1.0
    unit: str | None = None
    generation: int = 0
    capture: bool = False
    redact: bool = True
    shadow: str | None = None

    @property
    def label(self) -> str:
        """The version's label, or `base`."""
        return BASE if self.adapter is None else self.engine_model


@dataclass(slots=True)
class RequestRow:
    """One recorded request. Times are seconds since the epoch (`at`) or milliseconds (`*_ms`).

    `status` is what the client got; 499 stands for a client that went away before the end.
    `adapter` is a version label or `base`; empty when the request was refused before it was resolved.
    `cold`: it waited until its version was loaded.
    `internal`: nobody's own request, but a shadow's, an evaluation's, a load test's.
    `schema_valid`: whether the answer is the JSON that the request asked for; None where it asked for none.
    """

    id: str
    at: float
    endpoint: str
    key_id: str = ""
    tenant: str = ""
    client_request_id: str | None = None
    requested_model: str = ""
    route: str | None = None
    arm: str | None = None
    arm_probability: float | None = None
    unit: str | None = None
    adapter: str = ""
    replica: str | None = None
    generation: int = 0
    streamed: bool = False
    status: int = 0
    error_code: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    queue_ms: float | None = None
    ttft_ms: float | None = None
    latency_ms: float = 0.0
    finish_reason: str | None = None
    attempts: int = 0
    cold: bool = False
    internal: bool = False
    prompt: str | None = None
    answer: str | None = None
    answer_id: str | None = field(default=None)
    schema_valid: bool | None = None
