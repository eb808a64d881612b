"""The command line of the gate, a step of the loop: `python -m training.gate --route R --candidate NAME@N …`.

Exit code 0 when a verdict was given, whatever it is; 2 for bad usage or rows that can't be judged by; 1 when
it could not be done. The verdict is in `--out` (gate.json), which appears whole or not at all; run again
after a kill it goes on with the answers that are kept beside it.
"""

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from adapters.base import DEFAULT, identify
from adapters.prepare_base import prepare
from gateway.core.loop import LoopPolicy, read_policy
from gateway.core.refs import BASE, VersionRef
from training import options as o
from training.config import MAX_ANSWER_TOKENS, MAX_RANK
from training.evaluation import options as e
from training.evaluation.keeping import write
from training.evaluation.systems import Catalogue
from training.exits import exit_codes
from training.gate.decide import GOLDEN, NEW, OLD, Rule
from training.gate.gating import Order, gate
from training.gate.page import page
from training.gate.report import Report
from training.gate.table import show
from training.progress import Progress
from training.publishing.publish import control_url

PROGRAM = "python -m training.gate"
PAGE = "gate.html"
ANSWERS = "answers"
TRAINED = "train.jsonl"
BATCH = 32
GAIN = 2.0
"""There must be new rows enough to find a gain of so many margins."""

Version = Annotated[str, typer.Option(metavar="NAME@N")]
RowsFile = Annotated[Path, typer.Option(help="A file of rows; an empty one where there are none.")]
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown")


@app.command(name="gate")
def gate_command(
    *,
    route: Annotated[str, typer.Option(help="The route whose champion the candidate would replace.")],
    candidate: Version,
    champion: Annotated[str, typer.Option(metavar="NAME@N|base", help="What serves the route now.")],
    golden: RowsFile,
    new: RowsFile,
    old: RowsFile,
    policy: Annotated[Path, typer.Option(help="The run's policy.json.")],
    out: Annotated[Path, typer.Option(help="The file that gets the verdict; the page goes beside it.")],
    best: Annotated[
        str | None,
        typer.Option(metavar="NAME@N", help="The best version ever, for old and golden rows."),
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(
            help="The rows that were trained on. [default: train.jsonl beside --out, if it is there]"
        ),
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(
            help="The gain, in points, that there must be new rows enough to find. [default: two margins]"
        ),
    ] = None,
    metric: e.MetricNames = None,
    batch_size: e.BatchSize = BATCH,
    max_answer_tokens: e.MaxAnswerTokens = MAX_ANSWER_TOKENS,
    seed: e.Seed = 7,
    fresh: e.Fresh = False,
    base: o.Base = DEFAULT,
    base_name: o.BaseName = None,
    state_dir: o.StateDir = Path(".turnout"),
    control_db: Annotated[
        str | None,
        typer.Option(
            "--control-url", "--store-url", envvar="TURNOUT_STORE__CONTROL_URL", help="The control database."
        ),
    ] = None,
    max_rank: o.MaxRank = MAX_RANK,
    as_json: e.AsJson = False,
) -> None:
    """Judge a candidate against the champion on golden, old and new held-out rows, and give the verdict."""
    with exit_codes(PROGRAM):
        rule = rule_of(read_policy(policy), gain)
        for name in filter(None, (candidate, champion, best)):
            _check_version(name)
        progress = Progress()
        prepare(base, progress.step)
        identity = identify(base, base_name or base.rstrip("/").rsplit("/", 1)[-1])
        folder = out.absolute().parent
        report = gate(
            Order(
                route=route,
                candidate=candidate,
                champion=champion,
                best=best,
                paths={GOLDEN: golden, OLD: old, NEW: new},
                trained=train or folder / TRAINED,
                rule=rule,
                catalogue=Catalogue(
                    state_dir, control_url(state_dir, control_db), identity, max_rank=max_rank
                ),
                base=base,
                metrics=tuple(metric) if metric else None,
                max_answer_tokens=max_answer_tokens,
                batch_size=batch_size,
                seed=seed,
                cache=None if fresh else folder / ANSWERS,
                command=shlex.join([*PROGRAM.split(), *sys.argv[1:]]),
            ),
            progress,
        )
        _keep(report, out)
        if as_json:
            typer.echo(json.dumps(report.document(), ensure_ascii=False))
        else:
            show(report)


def rule_of(policy: LoopPolicy, gain: float | None) -> Rule:
    """Return what the gate asks for; `gain` in points, None for two margins.

    Raises:
        ValueError: the gain is not between 0 and 100 points.
    """
    wanted = GAIN * policy.margin if gain is None else gain / 100
    if not 0 < wanted < 1:
        raise ValueError(f"a gain of {100 * wanted:g} points is not between 0 and 100")
    return Rule(policy.margin, wanted, policy.min_trusted_held_out)


def _check_version(name: str) -> None:
    if name != BASE and VersionRef.parse(name) is None:
        raise ValueError(f"{name} is no version; name it as NAME@N")


def _keep(report: Report, out: Path) -> None:
    """Write the page first: where the verdict is, its page is too."""
    out.parent.mkdir(parents=True, exist_ok=True)
    write(out.with_name(PAGE), page(report))
    write(out, json.dumps(report.document(), ensure_ascii=False, indent=1) + "\n")
