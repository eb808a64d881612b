"""The OpenAPI document: FastAPI's own, without what is not so here, and with what is so everywhere.

FastAPI says of each endpoint with parameters that a wrong one is answered with 422 and a form of its own.
Here it is a 400 in OpenAI's form (`gateway.api.errors`). Whatever takes a body refuses one that is too large.
"""

from typing import Any

from fastapi import FastAPI

_ITS_OWN = "#/components/schemas/HTTPValidationError"


def tell_the_truth(app: FastAPI) -> None:
    """Make `app` serve the document without FastAPI's own 422."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        document = made()
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
