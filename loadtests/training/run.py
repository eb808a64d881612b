"""`make bench-training`: our supervised training beside TRL's, on the same rows, from the same seeds.

Three systems take turns, each run a process of its own (`loadtests.training.fits` says what they are): ours,
TRL's trainer with our settings (`trl_default`, the honest baseline), and TRL's trainer as it comes
(`trl_plain`). Rows are of mixed lengths, as real ones are, and of equal lengths, where padding and packing
change nothing.

`--shape 8b` is for a machine with a GPU: a base model of that shape with random weights, longer rows, the
GPU's memory, and `turnout_lean`, ours with little memory.
"""

import argparse
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console

from loadtests.common.machine import busy_share
from loadtests.common.processes import end_in_order
from loadtests.common.report import Sheet, console_for_people, number, publish
from loadtests.training.fits import LEAN, SYSTEMS, Measured, System, measure, seconds_to

BENCH = "bench-training"
SHAPED = "bench-training-{shape}"
LENGTHS = ("mixed", "equal")
SEEDS = (7, 8, 9)
ROWS, SLOW_ROWS = 48, 16
"""The second where the CPU has no bfloat16 products: all runs end within 20 minutes there too."""
QUICK_ROWS = 24
SHAPED_SEEDS = (7, 8)
SHAPED_ROWS = 128
NOTE = (
    "Medians over the seeds. The target is the loss at the end that both turnout and trl_default come to; a "
    "dash: not every run came to it."
)
SHAPED_NOTE = (
    "The weights are random: losses show that the systems learn alike, and nothing else. turnout_lean "
    "unpacks 4-bit weights in every pass and keeps gradient checkpoints."
)
HONEST = ("turnout", "trl_default")
"""The two that train alike: the target loss is what both of them reach."""


def main() -> int:
    """Run the benchmark; return 0 when every run came to its end, 2 where it can't run here."""
    options = _options()
    device = gpu() if options.shape else None
    if options.shape == "8b" and device is None:
        print("bench-training: --shape 8b needs a GPU; --shape tiny tries the same on any machine")
        return 2
    end_in_order()
    console = console_for_people()
    figures: dict[str, Any] = {}
    for lengths in LENGTHS:
        found = _turns(lengths, options, console)
        part = _figures(found, options.systems)
        if lengths == "mixed":
            figures |= part
        else:
            figures["equal_lengths"] = part
    figures["more"] = {"rows": options.rows, "seeds": options.seeds, "busy_before": options.busy}
    if options.shape is not None:
        figures["more"] |= {"shape": options.shape, "device": device}
    publish(
        SHAPED.format(shape=options.shape) if options.shape else BENCH,
        figures,
        _sheet(figures, options.systems, _title(options.shape, device)),
        console=console,
        history=options.history,
        partial=options.quick or options.shape == "tiny",
    )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-training", description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--rows",
        type=int,
        help=f"rows that a run trains on ({ROWS}; {SLOW_ROWS} on slow CPUs; of a shape {SHAPED_ROWS})",
    )
    parser.add_argument("--seeds", type=int, nargs="+", help="a run of every system for each")
    parser.add_argument(
        "--shape", choices=("8b", "tiny"), help="random weights of this shape; 8b needs a GPU"
    )
    parser.add_argument("--quick", action="store_true", help="one seed and few rows, not kept as history")
    parser.add_argument("--no-history", dest="history", action="store_false", help="leave RESULTS.md alone")
    options = parser.parse_args()
    shaped = options.shape is not None
    options.rows = options.rows or (SHAPED_ROWS if shaped else _rows())
    options.seeds = options.seeds or list(SHAPED_SEEDS if shaped else SEEDS)
    if options.quick:
        options.rows, options.seeds = min(options.rows, QUICK_ROWS), options.seeds[:1]
    options.systems = (*SYSTEMS, LEAN) if shaped else SYSTEMS
    options.busy = round(busy_share(), 2)
    return options


def _rows() -> int:
    from adapters.machine import multiplies_bfloat16  # noqa: PLC0415 - imports torch

    return ROWS if multiplies_bfloat16() else SLOW_ROWS


def gpu() -> str | None:
    """Return the name of the GPU that runs would use, or None."""
    import torch  # noqa: PLC0415 - seconds, after bad usage was told

    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else None


def _title(shape: str | None, device: str | None) -> str:
    if shape is None:
        return "Supervised training on NF4, the default base model"
    return f"Supervised training on NF4, random weights of the shape {shape}, on {device or 'the CPU'}"


def _turns(lengths: str, options: argparse.Namespace, console: Console) -> list[Measured]:
    """Let every system have its turn with every seed; who begins changes with the seed."""
    found = []
    for turn, seed in enumerate(options.seeds):
        for place in range(len(options.systems)):
            system = options.systems[(place + turn) % len(options.systems)]
            one = measure(system, lengths, seed=seed, rows=options.rows, shape=options.shape)
            found.append(one)
            console.print(
                f"{lengths} lengths, seed {seed}: {system}: {one.tokens_per_s:,.0f} tokens/s, "
                f"loss {one.validation_loss:.3f}, {one.peak_gpu_mb or one.peak_rss_mb:,.0f} MB"
            )
    return found


def _figures(found: Sequence[Measured], systems: Sequence[System]) -> dict[str, dict[str, float | None]]:
    figures = {
        "tokens_per_s": _by_system(found, systems, lambda one: one.tokens_per_s, 1),
        "peak_rss_mb": _by_system(found, systems, lambda one: one.peak_rss_mb, 0),
        "validation_loss": _by_system(found, systems, lambda one: one.validation_loss, 4),
        "s_to_target_loss": _by_system(
            found, systems, lambda one: seconds_to(one.curve, _target(found, one.seed)), 1
        ),
    }
    if any(one.peak_gpu_mb for one in found):
        figures["peak_gpu_mb"] = _by_system(found, systems, lambda one: one.peak_gpu_mb, 0)
    return figures


def _target(found: Iterable[Measured], seed: int) -> float:
    """Return the loss that both systems with our settings come to from this seed."""
    return max(one.validation_loss for one in found if one.seed == seed and one.system in HONEST)


def _by_system(
    found: Sequence[Measured], systems: Sequence[System], figure: Any, digits: int
) -> dict[str, float | None]:
    """Return the median over seeds; None when a run has no such figure, as one that misses the target."""
    medians: dict[str, float | None] = {}
    for system in systems:
        values = [figure(one) for one in found if one.system == system]
        whole = bool(values) and None not in values
        medians[system] = round(statistics.median(values), digits) if whole else None
    return medians


def _sheet(figures: dict[str, Any], systems: Sequence[System], title: str) -> Sheet:
    rows = []
    more = figures["more"]
    sizes = f"{more['rows']} rows to train on, {len(more['seeds'])} seeds. {NOTE}"
    for which, part in (("mixed lengths", figures), ("equal lengths", figures["equal_lengths"])):
        honest = part["tokens_per_s"]["trl_default"]
        memory = part.get("peak_gpu_mb", part["peak_rss_mb"])
        for system in systems:
            tokens = part["tokens_per_s"][system]
            rows.append(
                (
                    which,
                    system,
                    number(tokens),
                    number(tokens / honest if tokens and honest else None, 2),
                    number(part["validation_loss"][system], 3),
                    number(part["s_to_target_loss"][system], 1),
                    number(memory[system]),
                )
            )
    return Sheet(
        title=title,
        columns=("rows", "system", "tokens/s", "to trl_default", "loss at the end", "s to target", "MB"),
        rows=rows,
        notes=(sizes, SHAPED_NOTE) if LEAN in systems else (sizes,),
    )


if __name__ == "__main__":
    raise SystemExit(main())
