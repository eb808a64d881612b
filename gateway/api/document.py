"""The OpenAPI document: FastAPI's own, without what is not so here, and with what is so everywhere.

FastAPI says of each endpoint with parameters that a wrong one is answered with 422 and a form of its own.
Here it is a 400 in OpenAI's form (`gateway.api.errors`). Whatever takes a body refuses one that is too large.
The engines' endpoints, which FastAPI does not serve, are added; their fields are docs/api.md's.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI

from gateway.api.dialects import ANTHROPIC
from gateway.api.endpoints import Endpoint

_REFUSALS = (400, 401, 403, 404, 408, 413, 415, 429, 500, 502, 503, 504)
_ITS_OWN = "#/components/schemas/HTTPValidationError"


def tell_the_truth(app: FastAPI, endpoints: Iterable[Endpoint]) -> None:
    """Make `app` serve the document as it is so, with the engines' endpoints."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
        for endpoint in endpoints:
            document["paths"].setdefault(endpoint.path, {"post": _operation(endpoint)})
        for path in document["paths"].values():
            for operation in path.values():
                answers = operation["responses"]
                if _ITS_OWN in str(answers.get("422")):
                    del answers["422"]
                if "requestBody" in operation:
                    too_large = {**answers["400"], "description": "the body is too large"}
                    answers.setdefault("413", too_large)
        for name in ("HTTPValidationError", "ValidationError"):
            document.get("components", {}).get("schemas", {}).pop(name, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI's documentation has it


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    """Return what the document says of an engines' endpoint."""
    if endpoint.dialect is ANTHROPIC:
        error: dict[str, Any] = {"type": "object", "required": ["type", "error"]}
    else:
        error = {"$ref": "#/components/schemas/ErrorBody"}
    answer: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if endpoint.lengths:
        answer["text/event-stream"] = {"schema": {"type": "string"}}
    body = {"type": "object", "required": ["model"], "properties": {"model": {"type": "string"}}}
    return {
        "tags": ["models"],
        "summary": f"Ask a model: {endpoint.path}",
        "description": "As its vendor describes it. docs/api.md has the fields that are taken.",
        "operationId": endpoint.name.replace("/", "_"),
        "security": [{"HTTPBearer": []}],
        "requestBody": {"required": True, "content": {"application/json": {"schema": body}}},
        "responses": {
            "200": {"description": "the answer, or with `stream` its events", "content": answer},
            **{
                str(status): {
                    "description": HTTPStatus(status).phrase,
                    "content": {"application/json": {"schema": error}},
                }
                for status in _REFUSALS
            },
        },
    }
