"""`turnout data`: look at data before it is trained on.

Exit code 0 when it can be trained on, 2 when it can't or an option is wrong, 1 when something else failed.
"""

import json
import signal
import time
from pathlib import Path

import typer
from rich.console import Console

from gateway.core.requests import MAX_TEXT_CHARS
from gateway.core.times import parse_time
from training.config import TrainConfig
from training.data import options as o
from training.data import personal as people
from training.data.balance import Resampling
from training.data.check import CheckOptions
from training.data.duplicates import THRESHOLD
from training.data.formats import Limits
from training.data.page import write_html
from training.data.parsing import Columns
from training.data.prepare import Prepared, PrepareOptions, prepare
from training.data.report import show
from training.data.rows import DataError
from training.data.splits import Shares
from training.data.tokens import counting
from training.data.traffic import Traffic
from training.data.writing import write_rows
from training.exits import exit_codes
from training.progress import Progress

_SHARES = Shares()
_ALL = Limits().rows
_MIB = Limits().total_bytes // 2**20
app = typer.Typer(
    name="turnout data",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def data() -> None:
    """Look at data before it is trained on."""


@app.command(name="check")
def check_command(
    source: o.Source,
    *,
    form: o.Form = None,
    kind: o.Kind = None,
    prompt_column: o.PromptColumn = None,
    completion_column: o.CompletionColumn = None,
    chosen_column: o.ChosenColumn = None,
    rejected_column: o.RejectedColumn = None,
    rating_column: o.RatingColumn = None,
    weight_column: o.WeightColumn = None,
    max_mib: o.MaxMib = _MIB,
    since: o.Since = None,
    until: o.Until = None,
    version: o.Version = None,
    metric: o.Metric = None,
    at_least: o.AtLeast = None,
    state_dir: o.StateDir = o.STATE_DIR,
    control_url: o.ControlUrl = None,
    requests_url: o.RequestsUrl = None,
    max_text_chars: o.MaxTextChars = MAX_TEXT_CHARS,
    personal: o.Personal = "mask",
    as_written: o.AsWritten = False,
    ner_model: o.NerModel = None,
    near: o.Near = THRESHOLD,
    copies_only: o.CopiesOnly = False,
    conflicts: o.Conflicts = "majority",
    tokenizer: o.Tokenizer = None,
    max_tokens: o.MaxTokens = None,
    held_out: o.HeldOut = None,
    embeddings: o.Embeddings = False,
    group: o.Group = None,
    validation_share: o.ValidationShare = _SHARES.validation,
    test_share: o.TestShare = _SHARES.test,
    resample: o.Resample = None,
    resample_cap: o.ResampleCap = None,
    seed: o.Seed = 7,
    html: o.Html = None,
    fix: o.Fix = None,
    as_json: o.AsJson = False,
) -> None:
    """Check a source as `turnout train` does, and report what would be dropped, masked and split, and why.

    Nothing is changed; `--fix` writes the cleaned rows to a new file.
    """
    with exit_codes("turnout data check"):
        now = time.time()
        if max_tokens is not None and tokenizer is None:
            raise ValueError("--max-tokens needs --tokenizer, which says whose tokens")
        wanted = PrepareOptions(
            columns=columns_of(
                prompt_column, completion_column, chosen_column, rejected_column, rating_column, weight_column
            ),
            kind=kind,
            form=form,
            traffic=Traffic(
                control_url=control_url or f"sqlite:///{state_dir.absolute() / 'control.db'}",
                requests_url=requests_url or f"sqlite:///{state_dir.absolute() / 'requests.db'}",
                since=parse_time(since, now=now) if since else 0.0,
                until=parse_time(until, now=now) if until else None,
                version=version,
                metric=metric,
                at_least=at_least,
                max_text_chars=max_text_chars,
            ),
            limits=Limits(total_bytes=max_mib * 2**20),
            check=CheckOptions(
                personal=personal,
                normalise=not as_written,
                ner_model=ner_model,
                near=None if copies_only else near,
                conflicts=conflicts,
                max_tokens=max_tokens,
            ),
            held_out=held_out,
            shares=Shares(validation_share, test_share, max_validation=_ALL, max_test=_ALL),
            group=group,
            resampling=Resampling(resample, resample_cap, seed) if resample else None,
            embeddings=embeddings,
            seed=seed,
            strict=False,
        )
        progress = Progress(quiet=as_json)
        of = None if tokenizer is None else counting(tokenizer)
        most = max_tokens or TrainConfig().max_tokens
        found = prepare(
            source,
            wanted,
            tokens=None if of is None else of.tokens,
            limit=None if of is None else of.limit(most),
            stage=progress.stage,
        )
        if fix is not None:
            _fix(found, fix, ner_model)
        if html is not None:
            write_html(found.report, html)
        if as_json:
            typer.echo(json.dumps(found.report.document(), ensure_ascii=False))
        else:
            show(found.report, Console())
        if found.report.fatal:
            raise DataError("; ".join(finding.why for finding in found.report.fatal))


def columns_of(  # noqa: PLR0917 - one for each option, in their order
    prompt: str | None,
    completion: str | None,
    chosen: str | None = None,
    rejected: str | None = None,
    liked: str | None = None,
    weight: str | None = None,
) -> Columns | None:
    """Return the columns that were named, with the usual names for the others; None when none was."""
    named = {
        "prompt": prompt, "completion": completion, "chosen": chosen, "rejected": rejected, "liked": liked,
        "weight": weight,
    }  # fmt: skip
    given = {name: value for name, value in named.items() if value is not None}
    return Columns(**given) if given else None


def _fix(found: Prepared, path: Path, ner_model: str | None) -> None:
    """Write the cleaned rows, with personal data in further columns masked where it is in texts."""
    masked = found.report.settings["personal"] in ("mask", "drop")
    try:
        find = people.finder(ner_model)
    except people.PersonalUnavailable:
        find = people.by_form
    count = write_rows(found.dataset.rows, path, mask=(lambda text: find(text).text) if masked else str)
    typer.echo(f"{path}: {count:,} rows", err=True)


if __name__ == "__main__":
    # Asked to end, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="turnout data")
