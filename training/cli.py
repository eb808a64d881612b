"""The command line of `turnout train`: options to a job, errors to exit codes.

Exit code 0 when the adapter was made (and published), 2 when the data or an option is wrong, 1 otherwise.
"""

import getpass
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import typer

from adapters.base import DEFAULT, cache_dir, identify
from adapters.manifest import Manifest
from adapters.prepare_base import prepare
from gateway.core.refs import NAME_PATTERN, VersionRef, valid_name
from training import options as o
from training.config import MAX_RANK, SaveDtype, TrainConfig
from training.data.reading import Columns, read
from training.data.splits import Shares
from training.evaluation.metrics import METRICS
from training.exits import exit_codes
from training.job import Job, Origin, make
from training.progress import Progress
from training.publishing.probes import NEUTRAL
from training.publishing.publish import Fleet, control_url, newest, publish

_CONFIG = TrainConfig()
_SHARES = Shares()
app = typer.Typer(add_completion=False, rich_markup_mode="markdown")


@app.command(name="train")
def train(
    name: o.Name,
    data: o.Data,
    *,
    prompt_column: o.PromptColumn = None,
    completion_column: o.CompletionColumn = None,
    instruction: o.Instruction = None,
    base: o.Base = DEFAULT,
    base_name: o.BaseName = None,
    epochs: o.Epochs = _CONFIG.epochs,
    learning_rate: o.LearningRate = _CONFIG.learning_rate,
    rank: o.Rank = _CONFIG.rank,
    alpha: o.Alpha = _CONFIG.alpha,
    dropout: o.Dropout = _CONFIG.dropout,
    batch_size: o.BatchSize = _CONFIG.batch_size,
    max_tokens: o.MaxTokens = _CONFIG.max_tokens,
    seed: o.Seed = _CONFIG.seed,
    dtype: o.Dtype = _CONFIG.dtype,
    limit: o.Limit = None,
    validation_share: o.ValidationShare = _SHARES.validation,
    test_share: o.TestShare = _SHARES.test,
    max_test_rows: o.MaxTestRows = _SHARES.max_test,
    metric: o.MetricNames = None,
    shots: o.Shots = 0,
    probe: o.Probes = None,
    probes_from_data: o.ProbesFromData = False,
    data_source: o.DataSource = None,
    data_terms: o.DataTerms = "not stated",
    publish_it: o.Publish = True,
    out: o.Out = None,
    state_dir: o.StateDir = Path(".turnout"),
    store_url: o.StoreUrl = None,
    max_rank: o.MaxRank = MAX_RANK,
    as_json: o.AsJson = False,
) -> None:
    """Train a LoRA adapter on the quantized base model, judge it against the base, and publish it.

    Rows are `{"prompt": …, "completion": …}`, `{"messages": […]}` as for OpenAI's fine-tuning, or CSV with
    columns of those names or the ones given. A row's split follows from its prompt alone.
    """
    with exit_codes():
        _check_target(name, rank, max_rank, publish_it=publish_it, out=out)
        config = TrainConfig(
            epochs, learning_rate, rank, alpha, dropout, batch_size,
            max_tokens=max_tokens, seed=seed, dtype=cast("SaveDtype", dtype),
        )  # fmt: skip
        shares = Shares(validation_share, test_share, limit, max_test=max_test_rows)
        metrics = _known_metrics(metric)
        rows = read(data, _columns(prompt_column, completion_column))
        fleet = Fleet(state_dir, control_url(state_dir, store_url), max_rank) if publish_it else None
        progress = Progress()
        prepare(base, progress.step)
        command = shlex.join(["turnout", "train", *sys.argv[1:]])
        job = Job(
            name=name,
            examples=rows,
            model=base,
            base=identify(base, base_name or base.rstrip("/").rsplit("/", 1)[-1]),
            origin=Origin("turnout train", data_source or data.name, data_terms, command),
            config=config,
            shares=shares,
            instruction=instruction,
            metrics=metrics,
            shots=shots,
            probes=tuple(probe) if probe else NEUTRAL,
            probes_from_data=probes_from_data,
            predecessor=newest(name, fleet) if fleet else None,
        )
        manifest, ref = run(job, out, fleet, progress)
        _show(manifest, ref, out, as_json=as_json)


def run(
    job: Job, out: Path | None, fleet: Fleet | None, progress: Progress
) -> tuple[Manifest, VersionRef | None]:
    """Make the adapter in `out` (or a folder that is removed afterwards) and publish it to a fleet."""
    scratch_root = cache_dir() / "training"
    scratch_root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=scratch_root, prefix=f"{job.name}-") as scratch:
        folder = out or Path(scratch) / job.name
        manifest = make(job, folder, progress)
        if fleet is None:
            return manifest, None
        with progress.stage("Publishing"):
            row, _ = publish(job.name, folder, fleet=fleet, base=job.base, actor=_actor())
    return manifest, row.ref


def _check_target(name: str, rank: int, max_rank: int, *, publish_it: bool, out: Path | None) -> None:
    """Refuse before the work what would be refused after it."""
    if not valid_name(name):
        raise ValueError(f"{name!r} can't name an adapter: names match {NAME_PATTERN}, and 'base' is taken")
    if not publish_it and out is None:
        raise ValueError("--no-publish without --out would throw the adapter away; add --out DIR")
    if publish_it and rank > max_rank:
        raise ValueError(
            f"--rank {rank} is above the {max_rank} that the fleet serves; take a smaller one, or raise "
            "engine.max_lora_rank and --max-rank"
        )
    if out is not None and out.exists():
        raise ValueError(f"--out {out} exists already; name another folder, or remove it")


def _columns(prompt: str | None, completion: str | None) -> Columns | None:
    if prompt is None and completion is None:
        return None
    return Columns(prompt or "prompt", completion or "completion")


def _known_metrics(names: list[str] | None) -> tuple[str, ...] | None:
    for name in names or ():
        if name not in METRICS:
            raise ValueError(f"--metric {name} is not known; there are {', '.join(METRICS)}")
    return tuple(names) if names else None


def _actor() -> str:
    try:
        return f"train:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        return f"train:uid{os.getuid()}"


def _show(manifest: Manifest, ref: VersionRef | None, out: Path | None, *, as_json: bool) -> None:
    if as_json:
        document: dict[str, Any] = {
            "version": str(ref) if ref else None,
            "folder": str(out) if out else None,
            "manifest": manifest.model_dump(mode="json", exclude={"reference"}),
        }
        typer.echo(json.dumps(document))
        return
    judged = manifest.evaluation
    typer.echo(f"{ref or manifest.name}: rank {manifest.rank}, {manifest.size_bytes / 1e6:.1f} MB")
    for score in judged.scores if judged else ():
        typer.echo(
            f"  {score.system:18} {score.metric:12} {score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"
        )
    if judged:
        typer.echo(f"  on {judged.rows} held-out rows, with 95 % intervals")
    if judged and judged.note:
        typer.echo(f"  {judged.note}")
    if out:
        typer.echo(f"  folder: {out}")
