"""Route files for `turnout routes apply`, and arms as people type them: checked before anything is sent."""

import json
import tomllib
from typing import Any

MAX_FAULTS_SHOWN = 5


class RouteFileError(ValueError):
    """The file or the arms are wrong; the message says where."""


def read_routes(text: str) -> dict[str, dict[str, Any]]:
    """Return the specs of a JSON or TOML document by route.

    The document is one route (`name` and `spec`), or `routes` with a spec by name or a list of routes, or
    what `turnout routes list --json` prints. Every spec is validated.

    Raises:
        RouteFileError: it is none of these, or a spec is not valid.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, spec in _entries(_parse(text)):
        if name in found:
            raise RouteFileError(f"the route {name!r} is there twice")
        _validate(name, spec)
        found[name] = spec
    if not found:
        raise RouteFileError("the file names no route")
    return found


def read_arms(arms: list[str]) -> list[dict[str, Any]]:
    """Return the arms of `NAME@N[=SHARE]` words. Arms without a share divide what is left equally.

    Raises:
        RouteFileError: a share is no number between 0 and 1, or they don't add up to 1.
    """
    shares: dict[str, float | None] = {}
    for word in arms:
        label, equals, share = word.partition("=")
        if label in shares:
            raise RouteFileError(f"{label} is there twice")
        shares[label] = _share(word, share) if equals else None
    open_ends = [label for label, share in shares.items() if share is None]
    given = sum(share for share in shares.values() if share is not None)
    left = round(1 - given, 12)
    if left < 0 or (left > 0 and not open_ends) or (left == 0 and open_ends):
        raise RouteFileError(f"the shares add up to {given:g} and leave {max(left, 0.0):g}; they must make 1")
    return [
        {"adapter": label, "share": left / len(open_ends) if share is None else share}
        for label, share in shares.items()
    ]


def read_shadow(word: str) -> dict[str, Any] | None:
    """Return the shadow of a word `NAME@N=SHARE`; None for `none`, which ends it.

    Raises:
        RouteFileError: it is neither, or the share is no number between 0 and 1.
    """
    if word == "none":
        return None
    label, equals, share = word.partition("=")
    if not equals or not label:
        raise RouteFileError(f"{word!r} is neither NAME@N=SHARE nor none")
    return {"adapter": label, "share": _share(word, share)}


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as json_error:
        try:
            return tomllib.loads(text)
        except tomllib.TOMLDecodeError as toml_error:
            looks_like_json = text.lstrip().startswith(("{", "[{"))
            fault = f"JSON: {json_error}" if looks_like_json else f"TOML: {toml_error}"
            raise RouteFileError(f"this is not valid {fault}") from json_error


def _entries(document: Any) -> list[tuple[str, dict[str, Any]]]:
    if isinstance(document, dict) and "spec" in document:
        document = [document]
    elif isinstance(document, dict):
        document = document.get("routes", document.get("data"))
    if isinstance(document, dict):
        pairs = list(document.items())
    elif isinstance(document, list) and all(isinstance(one, dict) for one in document):
        pairs = [(one.get("name"), one.get("spec")) for one in document]
    else:
        raise RouteFileError("expected `routes` with a spec by name, or one route with `name` and `spec`")
    for name, spec in pairs:
        if not isinstance(name, str) or not isinstance(spec, dict):
            raise RouteFileError("every route needs a `name` and a `spec`")
    return pairs


def _validate(name: str, spec: dict[str, Any]) -> None:
    from pydantic import ValidationError  # noqa: PLC0415 - slow, and only `apply` needs it

    from gateway.core.routes import RouteSpec  # noqa: PLC0415

    try:
        RouteSpec.model_validate(spec)
    except ValidationError as error:
        said = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'spec'}: {fault['msg'].removeprefix('Value error, ')}"
            for fault in error.errors()[:MAX_FAULTS_SHOWN]
        )
        raise RouteFileError(f"the route {name!r}: {said}") from error


def _share(word: str, text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise RouteFileError(f"{word!r}: the share is not a number between 0 and 1")
    return share
