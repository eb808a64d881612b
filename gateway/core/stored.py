"""Routes as stores hold them, also those whose documents were written under older or newer checks. Pure.

A route that breaks a check of today is no reason to serve no route at all, nor to stop serving that one. What
of it can be read is kept, what can't is left out, and `Route.fault` says so. Its traffic does not depend on
that: it goes by the status. The controller acts on no spec that has a fault.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from gateway.core.routes import Capture, Route, RouteSpec, RouteStatus

Object = dict[str, Any]

_NO_CAPTURE: Mapping[str, Any] = {"mode": "off", "share": 0.0}
"""In place of a capture policy that can't be read: not the gateway's own, which may record more."""


def read_route(name: str, generation: int, spec: Any, status: Any) -> Route:
    """Return the route of stored documents, with what can be read of them."""
    read_status, unread = _status(status)
    read_spec, broken = _spec(spec, read_status)
    fault = "; ".join(part for part in (broken, unread) if part) or None
    return Route(name=name, spec=read_spec, generation=generation, status=read_status, fault=fault)


def _status(stored: Any) -> tuple[RouteStatus, str | None]:
    document = dict(stored) if isinstance(stored, dict) else {}
    why = None
    for _ in range(len(document) + 1):
        try:
            return RouteStatus.model_validate(document), why
        except ValidationError as error:
            why = why or f"its stored status breaks a check: {_said(error)}"
            for place in {fault["loc"][0] for fault in error.errors() if fault["loc"]}:
                document.pop(str(place), None)
    return RouteStatus(), why


def _spec(stored: Any, status: RouteStatus) -> tuple[RouteSpec, str | None]:
    document = dict(stored) if isinstance(stored, dict) else {}
    try:
        return RouteSpec.model_validate(document), None
    except ValidationError as error:
        why = f"its stored spec breaks a check, put it anew: {_said(error)}"
    for less in _less_and_less(document, status):
        try:
            return RouteSpec.model_validate(less), why
        except ValidationError:
            continue
    return RouteSpec.model_construct(arms=(), capture=Capture(**_NO_CAPTURE)), why


def _less_and_less(document: Object, status: RouteStatus) -> Iterator[Object]:
    """Yield what is left of a spec when more and more is taken away; the arms are replaced last."""
    known = {name: value for name, value in document.items() if name in RouteSpec.model_fields}
    metrics = known.get("metrics")
    if isinstance(metrics, dict):
        known["metrics"] = {
            name: value for name, value in metrics.items() if _is_good("metrics", {name: value})
        }
    yield known
    for name, value in list(known.items()):
        if name not in ("arms", "metrics") and not _is_good(name, value):
            del known[name]
            if name == "capture":
                known[name] = dict(_NO_CAPTURE)
    yield known
    yield {**known, "metrics": {}}
    yield {**known, "metrics": {}, "arms": [arm.model_dump() for arm in status.effective_arms]}


def _is_good(field: str, value: Any) -> bool:
    """Whether a field passes its checks on a spec that has nothing else."""
    arms = [{"adapter": "base", "share": 1.0}]
    return _passes(RouteSpec.model_validate, {"arms": arms, field: value})


def _passes(parse: Callable[[Any], Any], document: Any) -> bool:
    try:
        parse(document)
    except ValidationError:
        return False
    return True


def _said(error: ValidationError) -> str:
    """Return the first fault, with its place."""
    first = error.errors()[0]
    where = ".".join(map(str, first["loc"]))
    return f"{where}: {first['msg']}" if where else first["msg"]
