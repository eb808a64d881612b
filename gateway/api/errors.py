"""Every failure of an endpoint as an error of its dialect: one handler an exception class, no internals."""

import logging
import math
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from gateway import errors
from gateway.api.dialects import OPENAI, Dialect, dialect_of_request
from gateway.errors import Internal, InvalidRequest, TurnoutError, Unavailable
from gateway.store.database import StoreUnavailable

STORE_RETRY_AFTER_S = 1.0
_log = logging.getLogger("turnout.api")


def install_error_handlers(app: FastAPI) -> None:
    """Make every endpoint of `app` answer failures in OpenAI's form.

    What is not foreseen becomes a plain 500; Starlette then raises it on, so that the server logs it.
    """
    app.add_exception_handler(TurnoutError, _turnout_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(StoreUnavailable, _store_unavailable)
    app.add_exception_handler(Exception, _unforeseen)


def error_response(
    error: TurnoutError, headers: Mapping[str, str] | None = None, *, dialect: Dialect = OPENAI
) -> JSONResponse:
    """Return the answer for `error`; Retry-After in whole seconds, WWW-Authenticate with a 401."""
    every = dict(headers or {})
    if error.retry_after_s is not None:
        every["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        every["WWW-Authenticate"] = "Bearer"
    return JSONResponse(dialect.body(error), status_code=error.status, headers=every)


def explain(error: RequestValidationError) -> InvalidRequest:
    """Turn FastAPI's list of faults into one sentence. What the client sent is never repeated."""
    faults = error.errors()
    if any(fault["type"] == "json_invalid" for fault in faults):
        return InvalidRequest("the body is not valid JSON", param="body")
    said = "; ".join(f"{_place(fault)}: {_message(fault)}" for fault in faults)
    return InvalidRequest(said, param=_place(faults[0]) if faults else None)


def _place(fault: Mapping[str, Any]) -> str:
    """Return where a fault lies, without FastAPI's leading `body`, `query` or `path`."""
    where = [str(part) for part in fault["loc"]]
    return ".".join(where[1:] or where)


def _message(fault: Mapping[str, Any]) -> str:
    return str(fault["msg"]).removeprefix("Value error, ")


async def _turnout_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, TurnoutError)  # noqa: S101 - registered for this class only
    return error_response(error, dialect=dialect_of_request(request))


async def _validation_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    return error_response(explain(error), dialect=dialect_of_request(request))


async def _http_exception(request: Request, error: Exception) -> JSONResponse:
    """Answer what the router refuses by itself: no such path, or no such method on it."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    kind = _class_of(error.status_code)
    body = dialect_of_request(request).body(kind(str(error.detail)))
    return JSONResponse(body, status_code=error.status_code, headers=error.headers)


async def _store_unavailable(request: Request, error: Exception) -> JSONResponse:
    _log.warning("the store failed under %s %s: %s", request.method, request.url.path, error)
    return error_response(
        Unavailable(
            "the store does not answer; try again in a moment",
            code="store_unavailable",
            retry_after_s=STORE_RETRY_AFTER_S,
        )
    )


async def _unforeseen(_request: Request, _error: Exception) -> JSONResponse:
    return error_response(Internal("an internal error occurred; the gateway's log has its cause"))


def _class_of(status: int) -> type[TurnoutError]:
    known = {
        kind.status: kind
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, TurnoutError) and kind is not TurnoutError
    }
    return known.get(status, InvalidRequest if status < 500 else Internal)
