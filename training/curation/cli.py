"""The command line of curation.

Exit code 0 when `curate.json` is written, whatever it says; 2 when an option or the route is wrong; 1 when
something else failed: run again, it goes on.
"""

import json
from pathlib import Path
from typing import Annotated

import typer

from gateway.core.loop import read_policy
from gateway.core.requests import MAX_TEXT_CHARS
from training.curation.curate import Order, curate
from training.data import options as o
from training.exits import exit_codes
from training.publishing.publish import control_url as control_of

PROGRAM = "python -m training.curation"
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command()
def command(
    route: Annotated[str, typer.Argument(help="The route whose traffic is learned from.")],
    *,
    run: Annotated[str, typer.Option(help="The run's id.")],
    out: Annotated[Path, typer.Option(help="The run's folder, which gets the files.")],
    policy: Annotated[Path, typer.Option(help="The route's loop policy, as JSON.")],
    state_dir: o.StateDir = o.STATE_DIR,
    control_url: o.ControlUrl = None,
    requests_url: o.RequestsUrl = None,
    max_text_chars: o.MaxTextChars = MAX_TEXT_CHARS,
    ner_model: o.NerModel = None,
) -> None:
    """Choose which recorded requests a run trains on and is judged by.

    Killed at any moment and run again, it goes on with the same requests. The result is printed as JSON, and
    written last, to `curate.json`.
    """
    with exit_codes(PROGRAM):
        order = Order(
            route=route,
            run=run,
            out=out,
            policy=read_policy(policy),
            state_dir=state_dir.absolute(),
            control_url=control_of(state_dir, control_url),
            requests_url=requests_url or f"sqlite:///{state_dir.absolute() / 'requests.db'}",
            ner_model=ner_model,
            max_text_chars=max_text_chars,
        )
        found = curate(order, say=lambda text: typer.echo(text, err=True))
        typer.echo(json.dumps(found))
