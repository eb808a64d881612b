"""The command line of `turnout evaluate`: options to an order, a report to screen and files.

Exit code 0 when it was judged, whatever came out; 2 for bad usage; 1 when it could not be done, or when
`--require-parity` was asked for and parity does not hold.
"""

import json
import os
import shlex
import signal
import sys
from pathlib import Path
from typing import Any

import typer

from adapters.base import DEFAULT, cache_dir, identify
from adapters.prepare_base import prepare
from gateway.core.refs import VersionRef
from training import options as o
from training.config import MAX_ANSWER_TOKENS, MAX_RANK
from training.data.parsing import Columns
from training.evaluation import options as e
from training.evaluation.evaluating import EngineOrder, Order, evaluate_versions
from training.evaluation.judge_model import CONCURRENCY, JudgeSettings
from training.evaluation.judging import DRAWS, SHOTS, Settings
from training.evaluation.keeping import keep, write
from training.evaluation.page import page
from training.evaluation.preference import RUBRIC
from training.evaluation.report import Report
from training.evaluation.schemas import schema_in
from training.evaluation.sources import Wanted
from training.evaluation.systems import Catalogue
from training.evaluation.table import show
from training.exits import exit_codes
from training.progress import Progress
from training.publishing.publish import control_url
from training.runs.order import redacted

PROGRAM = "turnout evaluate"
GATEWAY = "http://127.0.0.1:8080"
JUDGE_KEY = "TURNOUT_JUDGE_KEY"
MOST_ROWS = 500
BATCH = 32
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(name="evaluate")
def evaluate_command(
    what: e.What,
    *,
    held_out: e.HeldOut = False,
    train: e.Train = None,
    limit: e.Limit = MOST_ROWS,
    form: e.Form = None,
    prompt_column: e.PromptColumn = None,
    completion_column: e.CompletionColumn = None,
    instruction: e.Instruction = None,
    test_share: e.TestShare = None,
    validation_share: e.ValidationShare = None,
    train_limit: e.TrainLimit = None,
    seen: e.Seen = False,
    route: e.Route = None,
    baselines: e.Baselines = True,
    shots: e.Shots = SHOTS,
    draws: e.Draws = DRAWS,
    quantization: e.Quantize = None,
    batch_size: e.BatchSize = BATCH,
    max_answer_tokens: e.MaxAnswerTokens = MAX_ANSWER_TOKENS,
    fresh: e.Fresh = False,
    metric: e.MetricNames = None,
    slice_column: e.SliceColumns = None,
    group: e.Group = None,
    schema: e.Schema = None,
    margin: e.Margin = 5.0,
    seed: e.Seed = 7,
    parity: e.ParityMode = "auto",
    engine_url: e.EngineUrl = None,
    require_parity: e.RequireParity = False,
    url: e.Url = GATEWAY,
    api_key: e.ApiKey = None,
    judge_url: e.JudgeUrl = None,
    judge_model: e.JudgeModel = None,
    judge_key_variable: e.JudgeKeyVariable = JUDGE_KEY,
    judge_rubric: e.JudgeRubric = None,
    judge_rows: e.JudgeRows = None,
    judge_concurrency: e.JudgeConcurrency = CONCURRENCY,
    base: o.Base = DEFAULT,
    base_name: o.BaseName = None,
    state_dir: o.StateDir = Path(".turnout"),
    store_url: o.StoreUrl = None,
    max_rank: o.MaxRank = MAX_RANK,
    html: e.Html = None,
    kept: e.Keep = True,
    as_json: e.AsJson = False,
) -> None:
    """Judge adapter versions on held-out rows: against the base model, the version in production, and others.

    The candidate comes first; every difference is the candidate minus another system, on the same rows, with
    its interval. `turnout evaluate support@4 support@3 rows.jsonl --slice product --group user`
    """
    with exit_codes(PROGRAM):
        *names, source = _names_and_source(what)
        shares = {"test": test_share, "validation": validation_share, "max_train": train_limit}
        order_of_judge = _judge(
            judge_url,
            judge_model,
            key=os.environ.get(judge_key_variable),
            rubric=judge_rubric,
            rows=judge_rows,
            concurrency=judge_concurrency,
        )
        engine = _engine(parity, engine_url, url, api_key, required=require_parity)
        fits = schema_in(schema) if schema else None
        progress = Progress()
        prepare(base, progress.step)
        identity = identify(base, base_name or base.rstrip("/").rsplit("/", 1)[-1])
        order = Order(
            names=tuple(names),
            rows=Wanted(
                source,
                _columns(prompt_column, completion_column),
                limit,
                held_out,
                shares,
                train=train,
                seen=seen,
                form=form,
            ),
            catalogue=Catalogue(state_dir, control_url(state_dir, store_url), identity, max_rank=max_rank),
            base=base,
            route=route,
            instruction=instruction,
            metrics=tuple(metric) if metric else None,
            fits=fits,
            slices=tuple(slice_column or ()),
            group=group,
            margin=margin / 100,
            settings=Settings(shots, draws, baselines, max_answer_tokens, seed),
            batch_size=batch_size,
            cache=None if fresh else cache_dir() / "evaluations",
            engine=engine,
            judge=order_of_judge,
            command=_command(),
            quantization=quantization,
        )
        report = evaluate_versions(order, progress)
        _write(report, html, state_dir if kept else None, progress)
        if as_json:
            typer.echo(json.dumps(report.document(), ensure_ascii=False))
        else:
            show(report)
        if require_parity and not (report.parity and all(each.holds for each in report.parity)):
            typer.echo(f"{PROGRAM}: parity with the serving engine does not hold", err=True)
            raise typer.Exit(1)


def _names_and_source(what: list[str]) -> list[str]:
    if len(what) < 2:
        raise ValueError("name at least one version and then the rows: NAME@N rows.jsonl")
    return what


def _columns(prompt: str | None, completion: str | None) -> Columns | None:
    if prompt is None and completion is None:
        return None
    return Columns(prompt or "prompt", completion or "completion")


def _judge(
    url: str | None,
    model: str | None,
    *,
    key: str | None,
    rubric: Path | None,
    rows: int | None,
    concurrency: int,
) -> JudgeSettings | None:
    if url is None and model is None:
        return None
    if url is None or model is None:
        raise ValueError("a judge needs both --judge-url and --judge-model")
    text = RUBRIC if rubric is None else rubric.read_text(encoding="utf-8")
    return JudgeSettings(url, model, key, text, concurrency, rows)


def _engine(parity: str, engine_url: str | None, url: str, key: str | None, *, required: bool) -> EngineOrder:
    if parity not in ("auto", "off"):
        raise ValueError(f"--parity is {parity!r}, and must be auto or off")
    if parity == "off" and (required or engine_url):
        raise ValueError("--parity off goes with neither --require-parity nor --engine-url")
    return EngineOrder(engine_url, url, key, wanted=parity != "off")


def _command() -> str:
    """Return the command line without the keys and passwords that somebody may have put into it."""
    arguments = [str(redacted(argument)) for argument in sys.argv[1:]]
    for place, argument in enumerate(arguments):
        if argument == "--api-key" and place + 1 < len(arguments):
            arguments[place + 1] = "…"
        elif argument.startswith("--api-key="):
            arguments[place] = "--api-key=…"
    return shlex.join(["turnout", "evaluate", *arguments])


def _write(report: Report, html: Path | None, state_dir: Path | None, progress: Progress) -> None:
    if html is not None:
        with progress.stage("Writing the page"):
            write(html, page(report))
    registered = VersionRef.parse(report.candidate)
    if state_dir is not None and registered is not None and state_dir.is_dir():
        with progress.stage("Keeping the report"):
            path = keep(report, state_dir / "evaluations" / str(registered))
        typer.echo(f"  kept: {path}", err=True)


def main() -> Any:
    """Run the command line."""
    # Asked to end, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    return app(prog_name=PROGRAM)


if __name__ == "__main__":
    main()
