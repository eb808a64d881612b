"""Every error that a client can meet, and the one table that gives it a status and a code.

TurnoutError
├── InvalidRequest          400  the body or a field is wrong
├── NotAuthenticated        401  no key, or not a valid one
├── NotPermitted            403  the key lacks a role
├── NotFound                404  no such model, route, version or request
├── NotAllowedHere          405  the path exists, the method does not
├── Stalled                 408  the client stopped sending its body
├── Conflict                409  what is stored contradicts what is asked
├── PreconditionFailed      412  `If-Match` names another generation
├── TooLarge                413  the body is over the limit
├── WrongMediaType          415  the body is not JSON
├── Unprocessable           422  well formed, but it can't be done
├── Overloaded              429  no place in the queue
├── LimitReached            429  a limit of the key, its tenant or the route is used up
├── Internal                500  a fault of ours
├── UpstreamFailed          502  the engine broke off or answered nonsense
├── Unavailable             503  no replica serves this now
└── UpstreamTimeout         504  the engine was too slow
"""

from typing import Any, ClassVar

LIMIT_CODES = frozenset({"rate_limit_exceeded", "insufficient_quota"})
"""Codes of requests that a limit of their own refused: no fault of the service."""


class TurnoutError(Exception):
    """An error with a message for the client. The message never holds a secret or an upstream's internals."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "api_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after_s = retry_after_s

    def body(self) -> dict[str, Any]:
        """Return the error in OpenAI's form."""
        return {
            "error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code},
        }


class InvalidRequest(TurnoutError):
    status, type = 400, "invalid_request_error"


class NotAuthenticated(TurnoutError):
    status, type, default_code = 401, "invalid_request_error", "invalid_api_key"


class NotPermitted(TurnoutError):
    status, type, default_code = 403, "permission_error", "insufficient_permissions"


class NotFound(TurnoutError):
    status, type, default_code = 404, "invalid_request_error", "not_found"


class NotAllowedHere(TurnoutError):
    status, type, default_code = 405, "invalid_request_error", "method_not_allowed"


class Stalled(TurnoutError):
    status, type, default_code = 408, "invalid_request_error", "request_timeout"


class Conflict(TurnoutError):
    status, type, default_code = 409, "invalid_request_error", "conflict"


class PreconditionFailed(TurnoutError):
    status, type, default_code = 412, "invalid_request_error", "generation_mismatch"


class TooLarge(TurnoutError):
    status, type, default_code = 413, "invalid_request_error", "request_too_large"


class WrongMediaType(TurnoutError):
    status, type, default_code = 415, "invalid_request_error", "unsupported_media_type"


class Unprocessable(TurnoutError):
    status, type, default_code = 422, "invalid_request_error", "unprocessable"


class Overloaded(TurnoutError):
    status, type, default_code = 429, "rate_limit_error", "overloaded"


class LimitReached(TurnoutError):
    status, type, default_code = 429, "rate_limit_error", "rate_limit_exceeded"


class Internal(TurnoutError):
    status, type, default_code = 500, "api_error", "internal_error"


class UpstreamFailed(TurnoutError):
    status, type, default_code = 502, "api_error", "upstream_failed"


class Unavailable(TurnoutError):
    status, type, default_code = 503, "api_error", "unavailable"


class UpstreamTimeout(TurnoutError):
    status, type, default_code = 504, "api_error", "upstream_timeout"
