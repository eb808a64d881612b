"""The engine's endpoints that clients may use, each with its fields, its dialect and its shape of answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.api import fields, prompts
from gateway.api.dialects import ANTHROPIC, OPENAI, RESPONSES, Dialect
from gateway.api.fields import Fields, check_fields, check_sequences
from gateway.upstream import shapes
from gateway.upstream.shapes import Shape

MAX_TOKENIZED_BYTES = 256 * 1024
"""An engine counts tokens without a limit of its own, and everybody else waits: 1 s for each MB."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One path. `prompt` makes a request's text for the record; without it, nothing is captured.

    `asks_usage`: a stream reports usage only when asked. `salted`: the engine takes a `cache_salt`.
    `keeps`: the engine would store the answer if it were not told otherwise. `max_body_bytes` is the
    endpoint's own limit of a body, below that of them all. `lengths` are the fields that say how long an
    answer may be, and `length_by_default` what the engine takes without; None: as much as fits. `ranked`: the
    engine takes a `priority`. `name` is the endpoint in rows and metrics.
    """

    path: str
    fields: Fields
    dialect: Dialect
    shape: Shape
    prompt: Callable[[Mapping[str, Any], int], str] | None = None
    asks_usage: bool = False
    salted: bool = True
    keeps: bool = False
    max_body_bytes: int | None = None
    lengths: tuple[str, ...] = ()
    length_by_default: int | None = None
    ranked: bool = False
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.path.removeprefix("/v1").removeprefix("/"))

    def check(self, body: dict[str, Any]) -> bool:
        """Check the fields of a body; return whether it asks for a stream.

        Raises:
            InvalidRequest: a field is refused, unknown or wrong.
        """
        check_fields(body, self.fields)
        if self.fields is fields.COMPLETIONS:
            check_sequences(body)
        return bool(body.get("stream"))

    def complete(self, body: dict[str, Any], *, engine_model: str, salt: str, request_id: str) -> bool:
        """Set what the gateway sets; return whether usage in the stream is to be hidden from the client.

        `priority` is left alone: an engine that schedules by arrival refuses any but 0, the default
        (`HotPath.rank` for those that don't).
        """
        body["model"] = engine_model
        if self.salted:
            body["cache_salt"] = salt
        if self.keeps:
            body["store"] = False
            # vLLM takes the header x-request-id for the other endpoints' ids, and for this one the field.
            body["request_id"] = f"resp_{request_id}"
        if not self.asks_usage or not body.get("stream"):
            return False
        options = body.get("stream_options") or {}
        hide_usage = options.get("include_usage") is not True
        # Per-chunk usage only comes with include_usage, for which this client did not ask.
        extra = {"continuous_usage_stats": False} if hide_usage else {}
        body["stream_options"] = {**options, **extra, "include_usage": True}
        return hide_usage


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "/v1/chat/completions",
        fields.CHAT,
        OPENAI,
        shapes.CHOICES,
        prompts.of_chat,
        asks_usage=True,
        lengths=("max_completion_tokens", "max_tokens"),
        ranked=True,
    ),
    Endpoint(
        "/v1/completions",
        fields.COMPLETIONS,
        OPENAI,
        shapes.CHOICES,
        prompts.of_completion,
        asks_usage=True,
        lengths=("max_tokens",),
        length_by_default=16,
        ranked=True,
    ),
    Endpoint(
        "/v1/responses",
        fields.RESPONSES,
        RESPONSES,
        shapes.RESPONSES,
        prompts.of_response,
        keeps=True,
        lengths=("max_output_tokens",),
        ranked=True,
    ),
    Endpoint(
        "/v1/messages",
        fields.MESSAGES,
        ANTHROPIC,
        shapes.MESSAGES,
        prompts.of_chat,
        lengths=("max_tokens",),
    ),
    Endpoint("/v1/messages/count_tokens", fields.COUNT_TOKENS, ANTHROPIC, shapes.PLAIN, salted=False),
    Endpoint(
        "/tokenize", fields.TOKENIZE, OPENAI, shapes.PLAIN, salted=False, max_body_bytes=MAX_TOKENIZED_BYTES
    ),
    Endpoint(
        "/detokenize",
        fields.DETOKENIZE,
        OPENAI,
        shapes.PLAIN,
        salted=False,
        max_body_bytes=MAX_TOKENIZED_BYTES,
    ),
)
