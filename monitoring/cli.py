"""`turnout monitor`: compares what routes get now with what they got before, once or all the time."""

import time
from contextlib import closing
from pathlib import Path

import orjson
import typer
from rich.console import Console

from gateway.core.routes import Route
from gateway.core.times import parse_time
from gateway.store.control import ControlStore
from gateway.store.database import StoreUnavailable
from gateway.store.requests import Requests
from monitoring.check import CheckOptions, Monitor, Outcome
from monitoring.embed import EmbeddingUnavailable
from monitoring.options import (
    Alpha,
    ControlUrl,
    CurrentSince,
    Embeddings,
    Json,
    MaxRows,
    MinRows,
    ReferenceRows,
    ReferenceSince,
    ReferenceUntil,
    RequestsUrl,
    Routes,
    StateDir,
)
from monitoring.report import ReportUnavailable
from monitoring.show import show
from monitoring.stores import open_store
from monitoring.watch.cli import watch
from monitoring.windows import ImpossibleWindows

app = typer.Typer(
    name="turnout monitor",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def monitor() -> None:
    """Compare what routes get now with what they got before."""


@app.command()
def run(
    routes: Routes = None,
    *,
    reference_since: ReferenceSince = None,
    reference_until: ReferenceUntil = None,
    reference_rows: ReferenceRows = None,
    current_since: CurrentSince = None,
    min_rows: MinRows = 50,
    max_rows: MaxRows = 1000,
    alpha: Alpha = 0.01,
    embeddings: Embeddings = True,
    state_dir: StateDir = Path(".turnout"),
    control_url: ControlUrl = None,
    requests_url: RequestsUrl = None,
    as_json: Json = False,
) -> None:
    """Test whether a route's prompts and answers changed, from recorded requests.

    Compares a reference window with a current window of the requests whose prompt was captured, writes a
    report under STATE_DIR/reports/ROUTE, stores the verdict, and prints it. This is one look at two windows:
    run again and again, it will raise a false alarm in the end.

    A TIME is like 2026-05-01T12:00 (UTC unless it says otherwise) or an age like 7d, 12h, 30m.

    Exit code 0 whatever the verdict, 1 when a check could not be made, 2 for bad usage.
    """
    now = time.time()
    options = CheckOptions(
        min_rows=min_rows,
        max_rows=max_rows,
        alpha=alpha,
        embeddings=embeddings,
        reference_since=_time(reference_since, "--reference-since", now=now),
        reference_until=_time(reference_until, "--reference-until", now=now),
        reference_rows=reference_rows,
        current_since=_time(current_since, "--current-since", now=now),
    )
    if reference_rows is not None and reference_until is not None:
        raise typer.BadParameter("give --reference-rows or --reference-until, not both")
    if max_rows < min_rows or (reference_rows is not None and reference_rows < min_rows):
        raise typer.BadParameter(f"no window could reach --min-rows {min_rows}")
    folder = state_dir.absolute()
    try:
        with (
            closing(open_store(control_url, "control", state_dir=folder)) as control,
            closing(open_store(requests_url, "requests", state_dir=folder)) as requests,
        ):
            store = ControlStore(control)
            watcher = Monitor(store, Requests(requests), reports=folder / "reports")
            _check(watcher, _chosen(store, routes or []), options, as_json=as_json)
    except (StoreUnavailable, EmbeddingUnavailable, ReportUnavailable, OSError) as error:
        _fail(error)


app.command()(watch)


def _check(watcher: Monitor, routes: list[Route], options: CheckOptions, *, as_json: bool) -> None:
    """Check routes one after the other; people see each as soon as it is done."""
    console, progress = Console(), Console(stderr=True)
    outcomes: list[Outcome] = []
    for route in routes:
        with progress.status(route.name) as status:
            try:
                outcomes.append(watcher.check(route, options, say=status.update))
            except ImpossibleWindows as error:
                raise typer.BadParameter(str(error)) from error
        if not as_json:
            show(console, outcomes[-1])
    if as_json:
        typer.echo(orjson.dumps({"routes": [outcome.document() for outcome in outcomes]}).decode())
    elif not routes:
        console.print("There are no routes yet: add an adapter, or set a route.")


def _chosen(store: ControlStore, names: list[str]) -> list[Route]:
    known = {route.name: route for route in store.routes.rows()}
    if unknown := sorted(set(names) - set(known)):
        raise typer.BadParameter(
            f"there is no route {', '.join(unknown)}; there are: {', '.join(known) or 'none'}"
        )
    return [known[name] for name in dict.fromkeys(names)] if names else list(known.values())


def _time(text: str | None, option: str, *, now: float) -> float | None:
    if text is None:
        return None
    try:
        return parse_time(text, now=now)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def _fail(error: Exception) -> None:
    Console(stderr=True).print(
        f"turnout monitor: {error}", style="red", highlight=False, markup=False, soft_wrap=True
    )
    raise typer.Exit(1) from error


def main() -> None:
    """Run the command line."""
    app(prog_name="turnout monitor")
