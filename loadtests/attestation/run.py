"""`make bench-attestation`: honest proofs without a false alarm, and every fault caught, on real engines.

For each way of quantizing the base model one engine runs. First every fault is injected, and judged twice: by
the reference that training recorded alone, and by an honest replica's answers beside it, as in a fleet. Then
honest versions are proved over and over, alone and under load. What is done is kept in a file: a run that was
cut short goes on where it stopped, unless `--afresh` is given.
"""

import argparse
import asyncio
import shutil
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
from rich.console import Console

from loadtests.attestation.adapters import other_base, prepare, root, versions
from loadtests.attestation.bed import ROWS, Bed, engine, keep, kept, row_of
from loadtests.attestation.faults import OTHER_BASE, inject_all, inject_base
from loadtests.attestation.figures import LOADS, figures_of, sheet_of
from loadtests.common.processes import StartFailed, end_in_order
from loadtests.common.report import console_for_people, publish

BENCH = "bench-attestation"
QUANTIZATIONS = ("bitsandbytes", "none")
BLOCK = 25


def main() -> int:
    """Run the benchmark; 0 only when every fault was caught and no honest version was refused."""
    options = _options()
    end_in_order()
    console = console_for_people()
    if options.afresh:
        ROWS.unlink(missing_ok=True)
        for quantization in QUANTIZATIONS:
            shutil.rmtree(root() / f"stores-{quantization}", ignore_errors=True)
    console.print("making the adapters that are missing")
    prepare()
    try:
        for quantization in options.quantization:
            asyncio.run(_run(quantization, options, console))
    except StartFailed as error:
        console.print(f"[red]{error}[/red]")
        return 1
    rows = kept(ROWS)
    figures = figures_of(rows)
    console.print()
    whole = figures["honest"] >= options.attestations and set(figures["by_quantization"]) == set(
        QUANTIZATIONS
    )
    publish(BENCH, figures, sheet_of(figures), console=console, history=options.history, partial=not whole)
    missed = [kind for kind, each in figures["faults"].items() if each["caught"] < each["injected"]]
    return 1 if missed or figures["false_alarms"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench-attestation", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--attestations", type=int, default=1000, help="honest ones in all")
    parser.add_argument("--quantization", nargs="+", choices=QUANTIZATIONS, default=list(QUANTIZATIONS))
    parser.add_argument(
        "--minutes", type=float, default=60.0, help="for each engine; the rest is done next time"
    )
    parser.add_argument("--afresh", action="store_true", help="forget what an earlier run has done")
    parser.add_argument("--no-history", dest="history", action="store_false", help="leave RESULTS.md alone")
    return parser.parse_args()


async def _run(quantization: str, options: argparse.Namespace, console: Console) -> None:
    """Do what is missing for one way of quantizing."""
    until = time.monotonic() + options.minutes * 60
    share = options.attestations // (len(LOADS) * len(QUANTIZATIONS))
    with tempfile.TemporaryDirectory(prefix="turnout-bench-") as scratch:
        folder = Path(scratch)
        console.print(f"{quantization}: starting the engine")
        async with httpx.AsyncClient(trust_env=False) as http:
            with engine(quantization, folder) as running:
                bed = Bed(running, http, _stores(quantization), quantization)
                await inject_all(bed, folder, console)
                await _honest_ones(bed, share, until, console)
            if not _done(quantization, OTHER_BASE):
                console.print(f"{quantization}: starting an engine with another base model")
                with engine(quantization, folder, model=other_base()) as other:
                    await inject_base(Bed(other, http, _stores(quantization), quantization), console)


async def _honest_ones(bed: Bed, share: int, until: float, console: Console) -> None:
    """Prove honest versions in blocks, alone and under load in turn, `share` times each or until the end."""
    for name, source in versions().items():
        await bed.register(name, source[0])
    done = {load: _done(bed.quantization, "honest", load=load) for load in LOADS}
    while any(count < share for count in done.values()) and time.monotonic() < until:
        load = min(LOADS, key=lambda each: done[each])
        count = min(BLOCK, share - done[load])
        async with AsyncExitStack() as stack:
            if load == "under load":
                await stack.enter_async_context(bed.load(list(versions())))
            await _block(bed, load, range(done[load], done[load] + count), console)
        done[load] += count


async def _block(bed: Bed, load: str, numbers: range, console: Console) -> None:
    """Prove a few honest versions with a prober that remembers nothing, as after a controller's start."""
    prober = bed.prober("fleet", replica="replica-1")
    names = list(versions())
    for number in numbers:
        name = names[number % len(names)]
        proof = await bed.prove(prober, name)
        keep(ROWS, row_of(bed, "honest", name, proof, load=load))
        if proof.fault:
            console.print(f"  [red]{bed.quantization}, {load}: {name} {proof.fault}[/red]")
    console.print(f"  {bed.quantization}, {load}: {numbers.stop} proofs, the last in {proof.seconds:.2f} s")


def _done(quantization: str, kind: str, *, load: str | None = None) -> int:
    return sum(
        row["quantization"] == quantization and row["kind"] == kind and load in (None, row.get("load"))
        for row in kept(ROWS)
    )


def _stores(quantization: str) -> Path:
    folder = root() / f"stores-{quantization}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    raise SystemExit(main())
