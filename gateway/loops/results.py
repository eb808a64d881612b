"""What the steps of a run say, read from their files with care: a step is another program. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from gateway.core.refs import VersionRef

MAX_REASON = 500
Method = Literal["sft", "kto", "dpo"]
Outcome = Literal["ready", "too_little_data", "waiting_review"]
Verdict = Literal["passed", "failed", "too_few_rows", "needs_approval"]
OUTCOMES: tuple[str, ...] = get_args(Outcome)
VERDICTS: tuple[str, ...] = get_args(Verdict)


class Unreadable(Exception):
    """A result does not say what it must. The message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Curated:
    """What was chosen to train on. Counts are rows."""

    outcome: Outcome
    method: Method
    rows: int
    new_rows: int
    trusted_held_out_new: int
    fingerprint: str | None
    reason: str | None


@dataclass(frozen=True, slots=True)
class Gated:
    """What the gate found, in a sentence."""

    verdict: Verdict
    reason: str
    driver: str | None


def curated(document: Mapping[str, Any]) -> Curated:
    """Read the result of the choice of rows.

    Raises:
        Unreadable: it is none.
    """
    outcome = _one_of(document, "outcome", OUTCOMES)
    ready = outcome == "ready"
    return Curated(
        outcome=outcome,  # type: ignore[arg-type]  # it is one of them
        method=_one_of(document, "method", get_args(Method)) if ready else "sft",  # type: ignore[arg-type]  # as above
        rows=_count(document, "rows") if ready else 0,
        new_rows=_count(document, "new_rows") if ready else 0,
        trusted_held_out_new=_count(document, "trusted_held_out_new") if ready else 0,
        fingerprint=_text(document, "fingerprint"),
        reason=_text(document, "reason"),
    )


def trained(document: Mapping[str, Any]) -> VersionRef:
    """Return the version that a training has published.

    Raises:
        Unreadable: it names none.
    """
    ref = VersionRef.parse(str(document.get("version")))
    if ref is None:
        raise Unreadable(f"it names no version: {document.get('version')!r}")
    return ref


def gated(document: Mapping[str, Any]) -> Gated:
    """Read the gate's verdict.

    Raises:
        Unreadable: it is none.
    """
    verdict = _one_of(document, "verdict", VERDICTS)
    return Gated(
        verdict=verdict,  # type: ignore[arg-type]  # it is one of them
        reason=_text(document, "reason") or verdict.replace("_", " "),
        driver=_text(document, "driver"),
    )


def lacking(document: Mapping[str, Any]) -> float | None:
    """Return how many times its new rows a gate would have needed, if it was these that were too few.

    None when it came to an answer, or lacks other rows: no later traffic brings old ones.
    """
    asked = document.get("driver_question")
    if document.get("verdict") != "too_few_rows" or not isinstance(asked, Mapping):
        return None
    rows, need = asked.get("rows"), asked.get("need")
    if asked.get("set") != "new" or type(rows) is not int or type(need) is not int:
        return None
    return need / rows if need > rows > 0 else None


def _one_of(document: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> str:
    value = document.get(name)
    if value not in allowed:
        raise Unreadable(f"{name} is {str(value)[:100]!r}, and must be one of {', '.join(allowed)}")
    return str(value)


def _count(document: Mapping[str, Any], name: str) -> int:
    value = document.get(name)
    if type(value) is not int or value < 0:
        raise Unreadable(f"{name} is {str(value)[:100]!r}, and must be a count")
    return value


def _text(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    return value[:MAX_REASON] if isinstance(value, str) and value else None
