"""One training job from rows to a finished adapter folder with its manifest.

`make` runs the stages in order: split, load, encode, train, round, judge, probe, write. The folder appears
whole, by one rename.
"""

import logging
import os
import shutil
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adapters.base import folder_of
from adapters.inspect import inspect
from adapters.manifest import BaseIdentity, Evaluation, Lineage, Manifest, Reference
from adapters.registry import MANIFEST, digest_of
from training.config import MAX_ANSWER_TOKENS, TrainConfig
from training.data.rows import DataError, Example
from training.data.splits import Shares, Splits, split
from training.fitting.template import Encoded, Template
from training.progress import Progress
from training.publishing import lineage
from training.publishing.probes import NEUTRAL, candidates, probe_examples, record


@dataclass(frozen=True, slots=True)
class Origin:
    """What lineage says of where the rows and the recipe come from."""

    recipe: str
    data_source: str
    data_terms: str
    command: str


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides one adapter. `model` is a folder's or hub's base model, `base` its identity.

    `probes_from_data` allows held-out prompts to be stored as probes. `predecessor` is the folder of the
    version that the probes must tell this one from.
    """

    name: str
    examples: Sequence[Example]
    model: str
    base: BaseIdentity
    origin: Origin
    config: TrainConfig = field(default_factory=TrainConfig)
    shares: Shares = field(default_factory=Shares)
    instruction: str | None = None
    metrics: tuple[str, ...] | None = None
    shots: int = 0
    max_answer_tokens: int = MAX_ANSWER_TOKENS
    probes: tuple[str, ...] = NEUTRAL
    probes_from_data: bool = False
    predecessor: Path | None = None


def make(job: Job, folder: Path, progress: Progress) -> Manifest:
    """Train the adapter, judge it, and leave it in `folder`, which must not exist yet.

    Raises:
        ValueError: the rows, the template or the settings can't be trained with; the message says why.
        FileExistsError: `folder` is there already.
        OSError: the base model or the disk can't be read or written.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; name another folder, or remove it")
    probe_examples(job.probes)
    splits = split(job.examples, job.shares)
    started = time.monotonic()
    scratch = folder.with_name(f".tmp-{uuid.uuid4().hex}")
    scratch.mkdir(parents=True)
    try:
        evaluation, reference, dropped = _train(job, splits, scratch, progress)
        manifest = _manifest(
            job,
            scratch,
            evaluation=evaluation,
            reference=reference,
            history=_lineage(job, splits, dropped, time.monotonic() - started),
        )
        (scratch / MANIFEST).write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return manifest


def _train(job: Job, splits: Splits, scratch: Path, progress: Progress) -> tuple[Evaluation, Reference, int]:
    """Run the stages that need the model; write the adapter's files into `scratch`."""
    # bitsandbytes warns of an optional kernel package at import.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # Threads that wait for each other in a busy loop crawl when an engine shares the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # On several GPUs the trainer would copy the model to each, which 4-bit layers do not survive.
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    with progress.stage("Loading torch, transformers and peft"):
        from training.evaluation.evaluate import evaluate  # noqa: PLC0415 - seconds; the reader's errors come first
        from training.fitting.fit import build_trainer, fit  # noqa: PLC0415
        from training.fitting.model import add_lora, load_base, round_to, save_adapter  # noqa: PLC0415
    with progress.stage("Loading the base model on NF4"):
        base = load_base(str(folder_of(job.model) or job.model))
        template = Template(base.tokenizer, base.stop_ids, instruction=job.instruction)
    rows, dropped = _encode(template, splits.train, min(job.config.max_tokens, base.max_position))
    held_out, _ = _encode(template, splits.validation, job.config.max_tokens)
    if not rows:
        raise DataError(f"every row is longer than --max-tokens {job.config.max_tokens}; raise it")
    model = add_lora(base.model, job.config)
    with progress.stage("Training") as stage:
        trainer = build_trainer(
            model,
            rows,
            held_out,
            job.config,
            template=template,
            scratch=scratch / "trainer",
            on_step=stage.at,
            checkpoints=False,
        )
        fit(trainer)
    shutil.rmtree(scratch / "trainer", ignore_errors=True)
    round_to(model, job.config.dtype)
    save_adapter(model, scratch, base_name=job.base.name, dtype=job.config.dtype)
    evaluation = evaluate(
        model,
        base,
        template,
        splits,
        metrics=job.metrics,
        shots=job.shots,
        max_answer_tokens=job.max_answer_tokens,
        seed=job.config.seed,
        progress=progress,
    )
    with progress.stage("Choosing and recording the probes"):
        held_out_rows = splits.test if job.probes_from_data else ()
        prompts = candidates(template, job.probes, held_out_rows)
        reference = record(model, template, prompts, predecessor=job.predecessor, base_digest=job.base.digest)
    return evaluation, reference, dropped


def _encode(template: Template, examples: Sequence[Example], max_tokens: int) -> tuple[list[Encoded], int]:
    """Return the rows that fit, and how many do not: a cut answer would teach to stop anywhere."""
    encoded = [template.encode(example) for example in examples]
    fitting = [row for row in encoded if len(row) <= max_tokens]
    return fitting, len(encoded) - len(fitting)


def _lineage(job: Job, splits: Splits, dropped: int, seconds: float) -> Lineage:
    config: dict[str, Any] = {
        **job.config.document(),
        "instruction": job.instruction,
        "rows_over_max_tokens": dropped,
    }
    return Lineage(
        recipe=job.origin.recipe,
        data_source=job.origin.data_source,
        data_terms=job.origin.data_terms,
        data_fingerprint=lineage.fingerprint(job.examples),
        rows=splits.counts(),
        config=config,
        command=job.origin.command,
        code_version=lineage.code_version(),
        packages=lineage.packages(),
        seconds=round(seconds, 1),
    )


def _manifest(
    job: Job, folder: Path, *, evaluation: Evaluation, reference: Reference, history: Lineage
) -> Manifest:
    facts = inspect(folder, max_rank=job.config.rank)
    return Manifest(
        name=job.name,
        digest=digest_of(folder),
        base=job.base,
        rank=facts.rank,
        alpha=facts.alpha,
        target_modules=facts.target_modules,
        dtype=facts.dtype,
        size_bytes=facts.size_bytes,
        source=f"training: {job.origin.recipe}",
        created_at=round(time.time(), 3),
        lineage=history,
        evaluation=evaluation,
        reference=reference,
    )
