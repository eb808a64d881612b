"""Whose requests are judged by and whose are trained on, for ever. Pure."""

from gateway.core.curation import HELD_OUT_SHARE, Split
from training.data.splits import position

BLOCK_S = 3600.0
"""Requests of one key without a subject go together by such blocks of time."""


def split_of(route: str, *, unit: str | None, key_id: str, at: float) -> Split:
    """Return where a request belongs for ever: all of a subject's on one side.

    Requests without a subject go together by key and hour, so that what one client asks in a row does not
    fall on both sides.
    """
    group = unit or f"{key_id} {int(at // BLOCK_S)}"
    return "held_out" if position(f"held out {route} {group}") < HELD_OUT_SHARE else "train"
