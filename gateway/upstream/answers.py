"""What an engine says when it refuses a request, in words for the client. Pure."""

import orjson

MAX_MESSAGE_CHARS = 1000
_PLAIN = "the engine refused the request"


def explain_refusal(body: bytes) -> tuple[str, str | None]:
    """Return message and parameter of a refusal in vLLM's form, or a plain sentence when it is of no form.

    Only refusals of the request itself come here (400, 413, 422): their text is about what the client sent.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _PLAIN, None
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict) or not isinstance(error.get("message"), str):
        return _PLAIN, None
    param = error.get("param")
    return error["message"][:MAX_MESSAGE_CHARS], param if isinstance(param, str) else None
