"""`make bench-training`: our supervised training beside TRL's, on the same rows, from the same seeds.

Three systems take turns, each run a process of its own (`loadtests.training_fits` says what they are): ours,
TRL's trainer with our settings (`trl_default`, the honest baseline), and TRL's trainer as it comes
(`trl_plain`). Rows are of mixed lengths, as real ones are, and of equal lengths, where padding and packing
change nothing.
"""

import argparse
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console

from loadtests.machine import busy_share
from loadtests.processes import end_in_order
from loadtests.report import Sheet, console_for_people, number, publish
from loadtests.training_fits import SYSTEMS, Measured, measure, seconds_to

BENCH = "bench-training"
LENGTHS = ("mixed", "equal")
SEEDS = (7, 8, 9)
ROWS = 48
QUICK_ROWS = 24
NOTE = (
    "Medians over the seeds. The target is the loss at the end that both turnout and trl_default come to; a "
    "dash: not every run came to it."
)
HONEST = ("turnout", "trl_default")
"""The two that train alike: the target loss is what both of them reach."""


def main() -> int:
    """Run the benchmark; return 0 when every run came to its end."""
    options = _options()
    end_in_order()
    console = console_for_people()
    figures: dict[str, Any] = {}
    for lengths in LENGTHS:
        found = _turns(lengths, options, console)
        part = _figures(found)
        if lengths == "mixed":
            figures |= part
        else:
            figures["equal_lengths"] = part
    figures["more"] = {"rows": options.rows, "seeds": options.seeds, "busy_before": options.busy}
    publish(
        BENCH,
        figures,
        _sheet(figures),
        console=console,
        history=options.history,
        partial=options.quick,
    )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rows", type=int, default=ROWS, help="rows that a run trains on")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--quick", action="store_true", help="one seed and few rows, not kept as history")
    parser.add_argument("--no-history", dest="history", action="store_false", help="leave RESULTS.md alone")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.seeds = min(options.rows, QUICK_ROWS), options.seeds[:1]
    options.busy = round(busy_share(), 2)
    return options


def _turns(lengths: str, options: argparse.Namespace, console: Console) -> list[Measured]:
    """Let every system have its turn with every seed; who begins changes with the seed."""
    found = []
    for turn, seed in enumerate(options.seeds):
        for place in range(len(SYSTEMS)):
            system = SYSTEMS[(place + turn) % len(SYSTEMS)]
            one = measure(system, lengths, seed=seed, rows=options.rows)
            found.append(one)
            console.print(
                f"{lengths} lengths, seed {seed}: {system}: {one.tokens_per_s:,.0f} tokens/s, "
                f"loss {one.validation_loss:.3f}, {one.peak_rss_mb:,.0f} MB"
            )
    return found


def _figures(found: Sequence[Measured]) -> dict[str, dict[str, float | None]]:
    return {
        "tokens_per_s": _by_system(found, lambda one: one.tokens_per_s, 1),
        "peak_rss_mb": _by_system(found, lambda one: one.peak_rss_mb, 0),
        "validation_loss": _by_system(found, lambda one: one.validation_loss, 4),
        "s_to_target_loss": _by_system(found, lambda one: seconds_to(one.curve, _target(found, one.seed)), 1),
    }


def _target(found: Iterable[Measured], seed: int) -> float:
    """Return the loss that both systems with our settings come to from this seed."""
    return max(one.validation_loss for one in found if one.seed == seed and one.system in HONEST)


def _by_system(found: Sequence[Measured], figure: Any, digits: int) -> dict[str, float | None]:
    """Return the median over seeds; None when a run has no such figure, as one that misses the target."""
    medians: dict[str, float | None] = {}
    for system in SYSTEMS:
        values = [figure(one) for one in found if one.system == system]
        whole = bool(values) and None not in values
        medians[system] = round(statistics.median(values), digits) if whole else None
    return medians


def _sheet(figures: dict[str, Any]) -> Sheet:
    rows = []
    for title, part in (("mixed lengths", figures), ("equal lengths", figures["equal_lengths"])):
        honest = part["tokens_per_s"]["trl_default"]
        for system in SYSTEMS:
            tokens = part["tokens_per_s"][system]
            rows.append(
                (
                    title,
                    system,
                    number(tokens),
                    number(tokens / honest if tokens and honest else None, 2),
                    number(part["validation_loss"][system], 3),
                    number(part["s_to_target_loss"][system], 1),
                    number(part["peak_rss_mb"][system]),
                )
            )
    return Sheet(
        title="Supervised training on NF4, the default base model",
        columns=("rows", "system", "tokens/s", "to trl_default", "loss at the end", "s to target", "MB"),
        rows=rows,
        notes=(NOTE,),
    )


if __name__ == "__main__":
    raise SystemExit(main())
