"""`turnout runs`: what was trained on this machine, what is under way, and what was stopped."""

import json
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from training import options as o
from training.exits import exit_codes
from training.progress import duration
from training.runs.folder import NoSuchRun, Run, RunState, all_runs, find_run, runs_dir, silent_end

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="The runs of `turnout train`.",
)
KEEP = 20
Given = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder or id.")]


@app.command(name="list")
def list_runs(
    *,
    runs: o.Runs = None,
    limit: Annotated[int, typer.Option(min=1, help="The most runs to show.")] = 20,
    as_json: o.AsJson = False,
) -> None:
    """List runs, the newest first."""
    with exit_codes("turnout runs"):
        found = _observed(runs_dir(runs))[:limit]
        if as_json:
            typer.echo(json.dumps([_document(run, state) for run, state in found]))
            return
        table = Table(box=None, header_style="dim")
        for heading in ("run", "state", "step", "loss", "validation", "version"):
            table.add_column(heading, overflow="fold")
        for run, state in found:
            last = _last(run)
            table.add_row(
                state.id,
                state.state,
                _whole(last.get("step")),
                _figure(last.get("loss")),
                _figure(last.get("validation_loss")),
                state.version or "",
            )
        Console().print(table)


@app.command()
def show(run: Given, *, runs: o.Runs = None, as_json: o.AsJson = False) -> None:
    """Show one run: its state, its settings and its latest figures."""
    with exit_codes("turnout runs"):
        found = Run(find_run(run, runs_dir(runs)))
        state = found.observed()
        if as_json:
            typer.echo(json.dumps(_document(found, state)))
            return
        typer.echo("\n".join(told(found, state)))


@app.command()
def remove(
    run: Annotated[list[Path], typer.Argument(metavar="RUN…", help="Folders or ids of runs.")],
    *,
    runs: o.Runs = None,
) -> None:
    """Remove runs with all that is in their folders. Published versions stay."""
    with exit_codes("turnout runs"):
        for each in run:
            found = Run.take(find_run(each, runs_dir(runs)))
            found.remove()
            found.release()
            typer.echo(f"removed {found.path}")


@app.command()
def prune(
    *,
    runs: o.Runs = None,
    keep: Annotated[int, typer.Option(min=0, help="Finished runs to keep, the newest.")] = KEEP,
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Also remove failed and killed runs: they can't go on then.")
    ] = False,
) -> None:
    """Remove old finished runs, and with --unfinished those that stopped. Nothing else ever removes a run."""
    with exit_codes("turnout runs"):
        observed = _observed(runs_dir(runs))
        old = [run for run, state in observed if state.state == "finished"][keep:]
        if unfinished:
            old += [run for run, state in observed if state.state in {"failed", "killed"}]
        for run in old:
            run.remove()
            typer.echo(f"removed {run.path}")


def told(run: Run, state: RunState) -> list[str]:
    """Return what is known of a run, for people."""
    last = _last(run)
    since = duration(max(0.0, time.time() - state.updated_at))
    lines = [
        f"{state.id}: {state.state} ({since} ago)" if state.state != "finished" else f"{state.id}: finished",
        f"  folder     {run.path}",
        f"  command    {state.command}",
    ]
    if state.version:
        lines.append(f"  version    {state.version}")
    if state.parent:
        lines.append(f"  parent     {state.parent}")
    if state.data:
        rows = ", ".join(f"{count} {split}" for split, count in state.data["rows"].items())
        lines.append(f"  rows       {rows} from {state.data['source']} ({state.data['terms']})")
    if last:
        figures = [f"step {last['step']}"]
        figures += [
            f"{name.replace('_', ' ')} {_figure(last[name])}"
            for name in ("loss", "validation_loss")
            if name in last
        ]
        lines.append(f"  figures    {', '.join(figures)}")
    if state.training_s is not None:
        pace = f", {state.tokens_per_s:,.0f} tokens/s" if state.tokens_per_s else ""
        lines.append(f"  training   {duration(state.training_s)}{pace}")
    if state.error:
        lines.append(f"  error      {state.error}")
    if state.state == "killed" and (silent := silent_end(run.read())):
        lines.append(f"  ended      {silent}")
    if state.state in {"failed", "killed"}:
        lines.append(f"  go on      turnout train --resume {run.path}")
    return lines


def _observed(root: Path) -> list[tuple[Run, RunState]]:
    found = []
    for run in all_runs(root):
        try:
            found.append((run, run.observed()))
        except NoSuchRun as error:
            typer.echo(f"turnout runs: {error}", err=True)
    return found


def _last(run: Run) -> dict[str, Any]:
    """Return the latest figures of a run."""
    found: dict[str, Any] = {}
    for point in run.points():
        found.update(point)
    return found


def _document(run: Run, state: RunState) -> dict[str, Any]:
    return {**asdict(state), "folder": str(run.path), "last": _last(run)}


def _figure(value: Any) -> str:
    return "" if value is None else f"{value:.4f}"


def _whole(value: Any) -> str:
    return "" if value is None else str(value)


if __name__ == "__main__":
    app(prog_name="turnout runs", args=sys.argv[1:])
