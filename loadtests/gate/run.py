"""`make bench-gate`: how often the gate errs, simulated with fixed seeds, beside the plain gate.

Worlds with one thing wrong, everything else right: how often they pass. Good candidates: how often they
pass, by the rows there are. No model is asked: rows are drawn, and the product's own rule judges them.
"""

import argparse
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from loadtests.common.report import Sheet, console_for_people, publish
from loadtests.gate.worlds import Rows, World, naive, verdicts
from training.gate.decide import Rule
from training.gate.gaps import ALPHA

RUNS = 2000
QUICK_RUNS = 200
FINE = Rows(400, 0.2, 0.3)
"""New rows on which the candidate is certainly better, so that only the old ones are in question."""

WORLDS: dict[str, World] = {
    "equal on new and old": World(Rows(400, 0.0, 0.25), Rows(800)),
    "five points worse on the old": World(FINE, Rows(1000, -0.05)),
    "five points worse than the best ever": World(FINE, Rows(1000), best=-0.05),
    "a slice of 1,000 rows five points worse": World(FINE, Rows(4000, slices=4, harmed=-0.05)),
    "a slice of 250 rows fifteen points worse": World(FINE, Rows(1000, slices=4, harmed=-0.15)),
    "a slice of 250 rows five points worse": World(FINE, Rows(1000, slices=4, harmed=-0.05)),
    "equal, four rows a subject": World(Rows(1200, 0.0, 0.25, per_subject=4), Rows(2400, per_subject=4)),
    "ten points better, 270 new and 620 old rows": World(Rows(270, 0.1, 0.25), Rows(620)),
    "ten points better, 150 new and 300 old rows": World(Rows(150, 0.1, 0.25), Rows(300)),
    "twenty points better, 1,000 old rows in 4 slices": World(FINE, Rows(1000, slices=4)),
    "twenty points better, 4,000 old rows in 4 slices": World(FINE, Rows(4000, slices=4)),
    "five points worse on 30 old rows, word F1": World(FINE, Rows(30, -0.05, 0.05, overlap=True)),
    "five points worse on 60 old rows, word F1": World(FINE, Rows(60, -0.05, 0.05, overlap=True)),
    "five points worse on 300 old rows, word F1": World(FINE, Rows(300, -0.05, 0.08, overlap=True)),
    "twenty points better, 340 old rows, word F1": World(FINE, Rows(340, 0.0, 0.08, overlap=True)),
    "twenty points better, 1,000 old rows in 20 slices, 0.5 % differ": World(
        FINE, Rows(1000, differing=0.005, slices=20)
    ),
}
PLAIN: dict[str, World] = {
    "200 rows, 2 points": World(FINE, Rows(200), rule=Rule(0.02, min_trusted=0)),
    "200 rows, 2 points, 4 slices": World(FINE, Rows(200, slices=4), rule=Rule(0.02, min_trusted=0)),
    "1,000 rows, 5 points, 4 slices": World(FINE, Rows(1000, slices=4)),
}
_SLOW = 10
"""Clustered rows are compared by permutations: so many times fewer runs of them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate every world and print, keep and, if asked, remember the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the runs")
    parser.add_argument("--no-history", action="store_true", help="do not append to RESULTS.md")
    given = parser.parse_args(arguments)
    runs = QUICK_RUNS if given.quick else RUNS
    console = console_for_people()
    with ProcessPoolExecutor(max_workers=min(2, os.cpu_count() or 1)) as pool:
        ours = {
            name: pool.submit(verdicts, world, runs=_runs(world, runs), seed=place)
            for place, (name, world) in enumerate(WORLDS.items())
        }
        plain = {name: pool.submit(naive, world, runs=runs, seed=3) for name, world in PLAIN.items()}
        found = {name: dict(each.result()) for name, each in ours.items()}
        naively = {name: each.result() for name, each in plain.items()}
    figures = {"alpha": ALPHA, "runs": runs, "verdicts": found, "plain_gate_passes_equal": naively}
    publish(
        "bench-gate",
        figures,
        _sheet(figures),
        console=console,
        history=not given.no_history,
        partial=given.quick,
    )


def _runs(world: World, runs: int) -> int:
    return runs // _SLOW if world.old.per_subject > 1 else runs


def _sheet(figures: dict[str, Any]) -> Sheet:
    names = ("passed", "failed", "too_few_rows")
    rows = [
        (world, *(f"{found.get(name, 0.0):.3f}" for name in names))
        for world, found in figures["verdicts"].items()
    ]
    notes = [
        f"plain gate (every part not inferior by 95 % intervals), equal candidate, {name}: {share:.3f} pass"
        for name, share in figures["plain_gate_passes_equal"].items()
    ]
    return Sheet("What the gate says", ("candidate", *names), rows, notes)


if __name__ == "__main__":
    main()
