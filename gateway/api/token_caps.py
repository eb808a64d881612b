"""The largest answer that a request may ask for: checked where it asks, set where it does not."""

from collections.abc import MutableMapping, Sequence
from typing import Any

from gateway.errors import InvalidRequest


def cap_answer(
    body: MutableMapping[str, Any],
    names: Sequence[str],
    most: int,
    *,
    whose: str,
    by_default: int | None = None,
) -> None:
    """Hold the answer to `most` tokens. `names` are the fields that say its length, the first goes first.

    `by_default` is what the engine takes where none is given; None: as much as fits.

    Raises:
        InvalidRequest: the request asks for more.
    """
    given = False
    for name in names:
        value = body.get(name)
        if not isinstance(value, int):
            continue
        given = True
        if value > most:
            raise InvalidRequest(
                f"{name!r} is {value}, and the {whose}'s limit is {most}", code="invalid_value", param=name
            )
    if not given and (by_default is None or by_default > most):
        body[names[0]] = most
