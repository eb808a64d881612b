"""`turnout top`: the fleet live in the terminal."""

import json as json_module
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.cli.client import Client
from gateway.cli.group import CliError
from gateway.cli.options import DEFAULT_URL, ApiKey, Json, Url
from gateway.cli.output import WIDE, note, print_json

if TYPE_CHECKING:
    from gateway.cli.top.reader import Reader


def top(
    *,
    once: Annotated[
        bool, typer.Option("--once", help="Print one frame, of one interval, and end; exit 1 on an alert.")
    ] = False,
    interval: Annotated[float, typer.Option(min=0.1, max=3600, help="Seconds between two readings.")] = 2.0,
    prometheus: Annotated[
        str | None, typer.Option(help="Where Prometheus is; alerts are then its own, with all history.")
    ] = None,
    json: Json = False,
    url: Url = DEFAULT_URL,
    api_key: ApiKey = None,
) -> None:
    """Show the fleet live: replicas, adapters, rates, latencies, experiments, alerts. Ctrl-C ends it.

    Rates and latencies are those of the one gateway machine that answers; with several behind one address,
    name one of them, or look at Grafana. With --json each frame is one line, with --once a document.
    """
    from gateway.cli.top.reader import Reader  # noqa: PLC0415 - `--help` need not pay for it

    title = f"turnout top {url}"
    with Client(url, api_key) as api:
        reader = Reader(api, prometheus=prometheus)
        try:
            if once:
                raise typer.Exit(_once(reader, interval=interval, json=json, title=title))
            if json:
                _lines(reader, interval=interval)
            else:
                _live(reader, interval=interval, title=title)
        except KeyboardInterrupt:
            return


def _once(reader: "Reader", *, interval: float, json: bool, title: str) -> int:
    reader.read()
    time.sleep(interval)
    frame = reader.read()
    assert frame is not None  # noqa: S101 - the second reading has one to compare with
    if json:
        print_json({**frame, "note": reader.note})
    else:
        from rich.console import Console  # noqa: PLC0415 - as above

        from gateway.cli.top.screen import draw  # noqa: PLC0415 - as above

        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=WIDE)
        console.print(draw(frame, title=title, note=reader.note, height=WIDE))
    return int(any(alert["firing"] for alert in frame["alerts"]))


def _lines(reader: "Reader", *, interval: float) -> None:
    """Print a line of JSON for each frame; a gateway that is away is told aside, once."""
    away: str | None = None
    while True:
        try:
            frame = reader.read()
        except CliError as error:
            if str(error) != away:
                note(str(error))
            away = str(error)
        else:
            away = None
            if frame is not None:
                typer.echo(json_module.dumps({**frame, "note": reader.note}, ensure_ascii=False))
        time.sleep(interval)


def _live(reader: "Reader", *, interval: float, title: str) -> None:
    """Draw frame after frame. While the gateway is away the last one stays, and says so."""
    from rich.live import Live  # noqa: PLC0415 - as above

    from gateway.cli.top.frame import unreachable  # noqa: PLC0415 - as above
    from gateway.cli.top.screen import draw, waiting  # noqa: PLC0415 - as above

    frame: dict[str, Any] | None = None
    read_at = 0.0
    with Live(waiting(title, "reading …"), screen=True, auto_refresh=False) as live:
        while True:
            try:
                fresh = reader.read()
                trouble = reader.note
            except CliError as error:
                fresh = None
                since = f"; these figures are {time.monotonic() - read_at:.0f} s old" if frame else ""
                trouble = f"{error}{since}; trying again"
                if frame is not None:
                    frame = unreachable(frame)
            if fresh is not None:
                frame, read_at = fresh, time.monotonic()
            if frame is not None:
                picture = draw(frame, title=title, note=trouble, height=live.console.height)
            else:
                picture = waiting(title, trouble or f"first figures in {interval:g} s …")
            live.update(picture, refresh=True)
            time.sleep(interval)
