"""From the rows of `make bench-attestation` to its figures and its table. Pure."""

from collections.abc import Iterable
from typing import Any

from loadtests.common.quantiles import quantile
from loadtests.common.report import Sheet, number

Row = dict[str, Any]
LOADS = ("alone", "under load")
HONEST = ("honest", "first proof")


def figures_of(rows: list[Row]) -> dict[str, Any]:
    """Return the benchmark's figures; distances and noise are in nats."""
    honest = [row for row in rows if row["kind"] == "honest"]
    by_name: dict[str, list[Row]] = {}
    for row in rows:
        by_name.setdefault(row["quantization"], []).append(row)
    return {
        "honest": len(honest),
        "false_alarms": sum(row["fault"] is not None for row in rows if row["kind"] in HONEST),
        "faults": _faults(rows),
        "distances": {name: _distances(own) for name, own in by_name.items()},
        "by_quantization": {
            name: {load: _honest([row for row in own if row.get("load") == load]) for load in LOADS}
            for name, own in by_name.items()
        },
    }


def sheet_of(figures: dict[str, Any]) -> Sheet:
    """Return the table of distances, with what was caught below it."""
    rows = []
    for quantization, kinds in figures["distances"].items():
        for kind, each in kinds.items():
            cells = (each["to_training"], each["to_fleet"], each["to_predecessor"], each["to_base"])
            rows.append([f"{quantization}: {kind}", *(number(value, 3) for value in cells)])
    notes = [
        f"{figures['honest']} honest attestations, {figures['false_alarms']} false alarms.",
        *(f"{kind}: {each['caught']} of {each['injected']} caught, "
          f"{each['caught_by_training']} by training's reference alone."
          for kind, each in figures["faults"].items()),
        *(f"{quantization}, {load}: {each['count']} proofs, {number(each['seconds_p50'], 2)} s each "
          f"(p99 {number(each['seconds_p99'], 2)} s), {each['weak']} of them weak."
          for quantization, loads in figures["by_quantization"].items() for load, each in loads.items()),
    ]  # fmt: skip
    columns = [
        "nats; right: the largest, wrong: the smallest",
        "to training",
        "to the fleet",
        "to predecessor",
        "to base",
    ]
    return Sheet("Distances of answers", columns, rows, notes)


def _faults(rows: list[Row]) -> dict[str, dict[str, int]]:
    faults: dict[str, dict[str, int]] = {}
    for row in rows:
        if row["kind"] in HONEST:
            continue
        each = faults.setdefault(row["kind"], {"injected": 0, "caught": 0, "caught_by_training": 0})
        each["injected"] += 1
        each["caught"] += row["fault"] is not None
        each["caught_by_training"] += row["by_training"] is not None
    return faults


def _distances(rows: list[Row]) -> dict[str, dict[str, float | None]]:
    """Return, by what answered, the largest distance when it was right and the smallest when it was wrong."""
    found: dict[str, dict[str, float | None]] = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        of_kind = [row for row in rows if row["kind"] == kind and row["figures"]]
        pick = max if kind in HONEST else min
        found[kind] = {
            "to_training": _pick(pick, (_compared(row, "training") for row in of_kind)),
            "to_fleet": _pick(pick, (_compared(row, "fleet") for row in of_kind)),
            "to_predecessor": _pick(min, (row["figures"]["distance_to_predecessor"] for row in of_kind)),
            "to_base": _pick(min, (row["figures"]["distance_to_base"] for row in of_kind)),
        }
    return found


def _compared(row: Row, reference: str) -> float | None:
    for each in row["figures"]["comparisons"]:
        if each["reference"] == reference:
            return float(each["distance"])
    return None


def _pick(pick: Any, values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return pick(known) if known else None


def _honest(rows: list[Row]) -> dict[str, Any]:
    seconds = sorted(row["figures"]["seconds"] for row in rows)
    return {
        "count": len(rows),
        "weak": sum(row["weak"] is not None for row in rows),
        "seconds_p50": quantile(seconds, 0.5) if seconds else None,
        "seconds_p99": quantile(seconds, 0.99) if seconds else None,
        "noise_max": max((row["figures"]["noise"] for row in rows), default=None),
    }
