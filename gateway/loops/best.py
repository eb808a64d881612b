"""Which version did best on old rows ever, so that small losses can't add up unseen. Pure."""

from collections.abc import Collection, Mapping, Sequence

from gateway.loops.run import Run


def best_of(promoted: Sequence[Run], *, champion: str, there: Collection[str]) -> str | None:
    """Return the version that did best on old rows ever, unless that is the champion.

    `promoted` has the newest run first, `there` the versions that can still be asked. Runs judge by different
    rows, so what counts is by how much each candidate's score was above that of its own champion, on the same
    rows, added up from promotion to promotion: small losses do. A version that no run has made begins with
    its own score.
    """
    scores: dict[str, float] = {}
    for run in reversed(promoted):
        gate = run.results.get("gate")
        new, old = _old_score(gate, "candidate"), _old_score(gate, "champion")
        if run.candidate is not None and new is not None and old is not None:
            scores[run.candidate] = scores.setdefault(run.champion, old) + new - old
    known = {label: score for label, score in scores.items() if label in there or label == champion}
    best = max(known, key=lambda label: (known[label], label == champion), default=None)
    return None if best == champion else best


def _old_score(gate: object, role: str) -> float | None:
    """Return how a role (candidate, champion) did on the old rows, as a gate has it."""
    found = gate
    for name in ("sets", "old", "systems", role):
        found = found.get(name) if isinstance(found, Mapping) else None
    value = found.get("value") if isinstance(found, Mapping) else found
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
