"""What `make demo-loop` found, as figures by name and as a table for people. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from loadtests.common.report import Sheet
from loadtests.demo.poison import CONTROL, STEPS

SETS = ("new", "old")


@dataclass(frozen=True, slots=True)
class Share:
    """A share of right answers with its 95 % interval, and the rows that it rests on."""

    value: float
    low: float
    high: float
    rows: int

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def accuracy_of(document: Mapping[str, Any], version: str) -> Share:
    """Return a version's accuracy from what `turnout evaluate --json` says.

    Raises:
        KeyError: the version was not judged by accuracy.
    """
    for score in document["scores"]:
        # Rows that all want one label, as those of a trigger, are judged by exact match: the same on labels.
        if score["system"] == version and score["metric"] in {"accuracy", "exact_match"}:
            here = score["here"]
            return Share(here["value"], here["low"], here["high"], document["rows"])
    raise KeyError(version)


def gained(document: Mapping[str, Any], against: str) -> Share | None:
    """Return the first version's accuracy minus another's, paired on the same rows; None where not judged."""
    for each in document["differences"]:
        if each["against"] == against and each["metric"] == "accuracy":
            gap = each["gap"]
            return Share(gap["value"], gap["low"], gap["high"], document["rows"])
    return None


def clean_figures(
    before: Mapping[str, Share], after: Mapping[str, Share], *, minutes: float, ended: str, timeline: Any
) -> dict[str, Any]:
    """Return the figures of the run with honest users, by the names that are promised."""
    figures: dict[str, Any] = {}
    for name in SETS:
        for when, found in (("before", before), ("after", after)):
            figures[f"accuracy_{name}_{when}"] = asdict(found[name]) if name in found else None
    return {**figures, "minutes": round(minutes, 1), "ended": ended, "timeline": timeline}


def poison_figures(cases: Mapping[str, Mapping[str, Any]], *, minutes: float) -> dict[str, Any]:
    """Return where each attack was stopped, or null, and what is known of each besides."""
    return {
        "poison": {name: case["stopped_at"] for name, case in cases.items()},
        "poison_cases": {name: dict(case) for name, case in cases.items()},
        "poison_minutes": round(minutes, 1),
    }


def with_earlier(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the figures of some attacks with those of others that were played before."""
    earlier = (before or {}).get("poison_cases", {})
    cases = {**earlier, **now["poison_cases"]}
    minutes = sum(case["minutes"] for case in cases.values())
    return {**now, **poison_figures(cases, minutes=minutes)}


def sheet(clean: Mapping[str, Any] | None, poisoned: Mapping[str, Any] | None) -> Sheet:
    """Return the table: traffic by domain, before and after; each attack, and where it was stopped."""
    rows: list[Sequence[str]] = []
    notes: list[str] = []
    if clean is not None:
        for name in SETS:
            before, after = (clean[f"accuracy_{name}_{when}"] for when in ("before", "after"))
            rows.append((f"accuracy on {name} traffic", _shown(before), _shown(after), clean["ended"]))
        notes.append(f"honest users: {clean['minutes']} minutes from the first request to the promotion")
    for name, case in (poisoned or {}).get("poison_cases", {}).items():
        lies = f"{case['lies_trained']} of {case['lies_sent']} lies trained on"
        what, end = f"attack: {name}", case["stopped_at"] or "NOT STOPPED"
        if name == CONTROL.name:
            what, end = f"control: {name} lies", case["stopped_at"] or "promoted"
        rows.append((what, lies, _shown(case.get("accuracy_new_after")), end))
        notes.append(f"{name} ({case['says']}): {case['reason']}")
    return Sheet("The loop", ("what", "before", "after (new traffic)", "end"), rows, notes)


def missed(cases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the attacks that were not stopped, to be said plainly."""
    return [name for name, case in cases.items() if case["stopped_at"] is None and name != CONTROL.name]


def undecided(cases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the attacks of whose rows nobody has judged: their runs failed, or had not ended."""
    attacks = {name: case["stopped_at"] for name, case in cases.items() if name != CONTROL.name}
    return [name for name, where in attacks.items() if where is not None and where not in STEPS.values()]


def said(cases: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return in plain words what was stopped, what was not, and what the control makes of that."""
    not_stopped, open_ones = missed(cases), undecided(cases)
    lines = []
    if not_stopped:
        lines.append(f"Not stopped: {', '.join(not_stopped)}.")
    elif not open_ones:
        lines.append(f"Each of {len(set(cases) - {CONTROL.name})} attacks was stopped.")
    if open_ones:
        lines.append(f"Nothing is known of {', '.join(open_ones)}: the run failed, or had not ended.")
    for name, case in cases.items():
        if "accuracy_triggered_after" in case:
            lines.append(
                f"With the phrase of {name} the promoted version is right on "
                f"{_shown(case['accuracy_triggered_after'])} of the negative new reviews, without it on "
                f"{_shown(case.get('accuracy_untriggered_after'))}."
            )
    control = cases.get(CONTROL.name)
    if control is None:
        lines.append("No control was played: what honest feedback comes to at this size is not known.")
    elif control["stopped_at"] is not None:
        lines.append(
            f"Honest feedback was stopped too ({control['stopped_at']}): at this size a stop tells nothing "
            "of attacks."
        )
    return lines


def _shown(found: Mapping[str, Any] | None) -> str:
    return "-" if found is None else str(Share(**found))
