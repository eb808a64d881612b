"""The command line of `turnout train`: options to a run, errors to exit codes.

Exit code 0 when the adapter was made (and published), 2 when the data or an option is wrong, 1 otherwise.
"""

import json
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import typer

from adapters.manifest import Manifest
from training import options as o
from training.commands import by_flag, chosen, takes
from training.exits import exit_codes
from training.fitting.world import rank, world
from training.progress import Progress
from training.runs.companions import Companions
from training.runs.files import options_text, read_options
from training.runs.folder import Run, find_run, runs_dir
from training.runs.order import Order, as_served, flag, order_of
from training.runs.preparing import check
from training.runs.session import MAY_CHANGE, Result, begin, resume
from training.runs.settings import OF_A_PARENT, config_document, kind_wanted, settings

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")
ON_RESUME = MAY_CHANGE | {"resume", "runs", "as_json"}
"""What may be said when a run goes on; all else stays as it began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """Options that say what to do, and decide nothing about a run."""

    resume: o.Resume = None
    config: o.ConfigFile = None
    print_config: o.PrintConfig = False
    dry_run: o.DryRun = False
    measure: o.Measure = False
    no_track: o.NoTrack = False
    as_json: o.AsJson = False


@app.command(name="train")
@takes(Order, Ask)
def train(ctx: typer.Context, given: dict[str, Any]) -> None:
    """Train a LoRA adapter on the quantized base model, judge it against the base, and publish it.

    The recipe follows from the rows: answers, ratings, preferences or raw text. What is wrong with the rows
    or an option is said before a model is loaded. A run has a folder with its figures; one that was stopped
    in any way goes on with `turnout train --resume RUN`.
    """
    ask = Ask(**{field.name: given.pop(field.name) for field in fields(Ask)})
    with exit_codes():
        progress = Progress(quiet=rank() > 0)
        if ask.resume is not None:
            _refuse_changes(ctx)
            _show(_resumed(ask.resume, given, progress), as_json=ask.as_json)
            return
        order = _order(ctx, given, ask)
        if ask.print_config:
            typer.echo(_config_text(order), nl=False)
            return
        order = order.settled(Path.cwd())
        if ask.dry_run or ask.measure:
            _estimate(order, ask, progress)
            return
        _show(_begun(order, progress), as_json=ask.as_json)


def _order(ctx: typer.Context, given: dict[str, Any], ask: Ask) -> Order:
    file = {} if ask.config is None else read_options(ask.config)
    order = order_of({**as_served(os.environ), **chosen(ctx, given, file)})
    return replace(order, track="none") if ask.no_track else order


def _begun(order: Order, progress: Progress) -> Result | None:
    if world() == 1:
        return begin(order, progress)
    if rank() > 0:
        _along()
        return None
    return begin(order, progress, companions=Companions())


def _resumed(path: Path, given: dict[str, Any], progress: Progress) -> Result | None:
    if rank() > 0:
        _along()
        return None
    run = Run.take(find_run(path, runs_dir(given["runs"])))
    companions = Companions() if world() > 1 else None
    changes = {name: given[name] for name in MAY_CHANGE if given[name] is not None}
    try:
        return resume(run, progress, changes=changes, companions=companions)
    finally:
        run.release()


def _along() -> None:
    from training.runs.joint import train_along  # noqa: PLC0415 - only under a launcher

    train_along()


def _refuse_changes(ctx: typer.Context) -> None:
    """A run goes on as it began: other options would make it another run."""
    plain = {"name", "source"}
    for name in sorted(by_flag(ctx) - ON_RESUME):
        ours = {field.name for field in fields(Order)} - plain
        option = flag(name) if name in ours else name if name in plain else f"--{name.replace('_', '-')}"
        raise ValueError(f"--resume goes on with a run as it began; leave {option} out, or begin a new run")


def _config_text(order: Order) -> str:
    """Return the order as a file; with a recipe, its settings too."""
    values = order.document()
    if order.recipe is None:
        return options_text(values)
    kind = kind_wanted(order.recipe)
    if kind is None:
        return options_text(values)
    whole = config_document(settings(order, kind))
    hidden = {"method", "parent", *(OF_A_PARENT if order.from_version else ())}
    shown = {name: _as_option(value) for name, value in whole.items() if name not in hidden}
    return options_text({**shown, **values})


def _as_option(value: Any) -> Any:
    return ",".join(value) if isinstance(value, list) else value


def _estimate(order: Order, ask: Ask, progress: Progress) -> None:
    check(order)
    from training.runs.dry_run import dry_run  # noqa: PLC0415 - seconds; the order's errors come first

    found = dry_run(order, progress, measure=ask.measure)
    typer.echo(json.dumps(found.document()) if ask.as_json else "\n".join(found.lines()))


def _show(result: Result | None, *, as_json: bool) -> None:
    if result is None:  # another process of the launcher has it
        return
    if as_json:
        document = {
            "version": str(result.ref) if result.ref else None,
            "folder": str(result.folder),
            "run": str(result.run),
            "manifest": (
                result.manifest.model_dump(mode="json", exclude={"reference"}) if result.manifest else None
            ),
        }
        typer.echo(json.dumps(document))
        return
    if result.manifest is not None:
        _show_manifest(result, result.manifest)
    typer.echo(f"  folder: {result.folder}")


def _show_manifest(result: Result, manifest: Manifest) -> None:
    judged = manifest.evaluation
    typer.echo(f"{result.ref or manifest.name}: rank {manifest.rank}, {manifest.size_bytes / 1e6:.1f} MB")
    for score in judged.scores if judged else ():
        typer.echo(
            f"  {score.system:18} {score.metric:12} {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
        )
    if judged:
        typer.echo(f"  on {judged.rows} held-out rows, with 95 % intervals")
    if judged and judged.note:
        typer.echo(f"  {judged.note}")
