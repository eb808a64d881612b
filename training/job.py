"""One training job from rows to a finished adapter folder with its manifest and card.

The stages are train, judge, probe and finish. Each leaves a file when it is done and is not repeated where
the file is: a job that was killed at any moment goes on in its folder with the first stage that is not done.
"""

import json
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.base import folder_of
from adapters.inspect import inspect
from adapters.manifest import BaseIdentity, EmbeddingSample, Evaluation, Lineage, Manifest, Reference
from adapters.registry import MANIFEST, digest_of
from training.config import MAX_ANSWER_TOKENS, TrainConfig
from training.data.rows import DataError, Example, Row
from training.data.splits import Shares, Splits, split
from training.environment import keep_to_one_gpu, quieten
from training.progress import Progress
from training.publishing import lineage
from training.publishing.card import CARD, card
from training.publishing.probes import NEUTRAL, candidates, probe_examples, record
from training.runs.folder import appearing, replace_file
from training.runs.recorder import Listener

if TYPE_CHECKING:
    from training.fitting.model import Base
    from training.fitting.template import Template

TRAINED = "trained.json"
EVALUATION = "evaluation.json"
REFERENCE = "reference.json"


AS_THEY_ARE = {"near": None, "personal": "off", "conflicts": "keep"}
"""How rows are checked that come to a job without a check."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What lineage says of where the rows and the recipe come from; of a version of the loop also its run."""

    recipe: str
    data_source: str
    data_terms: str
    command: str
    loop_run: str | None = None
    drift_id: int | None = None
    curated: str | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that decides one adapter. `model` is a folder's or hub's base model, `base` its identity.

    `alone` judges the adapter without its base, as for a learning curve. `probes_from_data` lets held-out
    prompts be probes. `predecessor` is the folder of the version that the probes must tell this one from.
    `parent` names the version that training goes on from.
    """

    name: str
    examples: Sequence[Row]
    model: str
    base: BaseIdentity
    origin: Origin
    config: TrainConfig = field(default_factory=TrainConfig)
    shares: Shares = field(default_factory=Shares)
    instruction: str | None = None
    metrics: tuple[str, ...] | None = None
    shots: int = 0
    alone: bool = False
    max_answer_tokens: int = MAX_ANSWER_TOKENS
    probes: tuple[str, ...] = NEUTRAL
    probes_from_data: bool = False
    predecessor: Path | None = None
    parent: str | None = None
    data_fingerprint: str | None = None
    read_fingerprint: str | None = None
    split: Mapping[str, Any] | None = None
    embedding_sample: EmbeddingSample | None = None


@dataclass(frozen=True, slots=True)
class Trained:
    """What training did: rows left out as too long, steps, and losses where there were validation rows."""

    dropped: int
    steps: int
    loss: float
    validation_before: float | None
    validation_after: float | None
    seconds: float
    compute_dtype: str = "bfloat16"


@dataclass
class _Loaded:
    base: "Base"
    template: "Template"
    model: Any


def make(job: Job, folder: Path, progress: Progress, *, splits: Splits[Row] | None = None) -> Manifest:
    """Train the adapter, judge it, and leave it in `folder`, which must not exist yet.

    Without `splits`, the rows are split by the job's shares.

    Raises:
        ValueError: the rows, the template or the settings can't be trained with; the message says why.
        FileExistsError: `folder` is there already.
        OSError: the base model or the disk can't be read or written.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists already; name another folder, or remove it")
    probe_examples(job.probes)
    splits = splits or split(job.examples, job.shares)
    work = folder.with_name(f".tmp-{uuid.uuid4().hex}")
    work.mkdir(parents=True)
    try:
        maker = Maker(job, splits, work, progress)
        maker.train()
        maker.judge()
        maker.probe()
        manifest = maker.finish()
        maker.adapter.rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return manifest


class Maker:
    """Runs the stages of one job in a folder of its own. The model is loaded by the first that needs it."""

    def __init__(
        self,
        job: Job,
        splits: Splits[Row],
        work: Path,
        progress: Progress,
        *,
        checkpoints: Path | None = None,
        listener: Listener | None = None,
    ) -> None:
        """Without `checkpoints`, training that is stopped begins again."""
        self.job = job
        self.splits = splits
        self.adapter = work / "adapter"
        self._work = work
        self._progress = progress
        self._checkpoints = checkpoints
        self._listener = listener
        self._loaded: _Loaded | None = None

    @cached_property
    def _began(self) -> float:
        return time.monotonic()

    def train(self, *, first: bool = True) -> None:
        """Train, round, and leave the adapter's files, unless they are there.

        Of several processes, only the `first` writes them.
        """
        _ = self._began
        if self.adapter.is_dir():
            return
        quieten()
        keep_to_one_gpu()
        with self._progress.stage("Loading torch, transformers and peft"):
            from training.fitting.encoding import encode  # noqa: PLC0415 - seconds; the reader's errors come first
            from training.fitting.model import add_lora, round_to, save_adapter, save_model  # noqa: PLC0415
        config = self.job.config
        loaded = self._load_base()
        encoded, dropped = encode(
            loaded.template, self.splits.train, config, max_position=loaded.base.max_position
        )
        held_out, unused = encode(
            loaded.template, self.splits.validation, config, max_position=loaded.base.max_position
        )
        for part, count, rows in (("training", dropped, encoded), ("validation", unused, held_out)):
            if count and first:
                longer = f"longer than --max-tokens {config.max_tokens} or the context window"
                self._progress.say(f"{count} of {count + len(rows)} {part} rows are {longer}, and left out")
        if not encoded:
            raise DataError(f"every row is longer than --max-tokens {config.max_tokens}; raise it")
        loaded.model = loaded.base.model if config.full else add_lora(loaded.base.model, config)
        done = self._fit(loaded, encoded, held_out)
        if not config.full:
            round_to(loaded.model, config.dtype)
        if not first:
            return
        trained = Trained(
            dropped,
            done.steps,
            done.loss,
            done.validation_before,
            done.validation_after,
            done.seconds,
            loaded.base.compute_dtype,
        )
        replace_file(self._work / TRAINED, json.dumps(asdict(trained)) + "\n")
        with appearing(self.adapter) as scratch:
            if config.full:
                save_model(loaded.model, loaded.base.tokenizer, scratch, dtype=config.dtype)
            else:
                save_adapter(loaded.model, scratch, base_name=self.job.base.name, dtype=config.dtype)

    def judge(self) -> Evaluation:
        """Judge the adapter on held-out rows, unless that was done."""
        if (kept := _kept(self._work / EVALUATION)) is not None:
            return Evaluation.model_validate_json(kept)
        loaded = self._load_adapter()
        from training.evaluation.held_out import judge  # noqa: PLC0415 - imports torch

        found = judge(
            loaded.model,
            loaded.base,
            loaded.template,
            self.splits,
            metrics=self.job.metrics,
            shots=self.job.shots,
            alone=self.job.alone,
            max_answer_tokens=self.job.max_answer_tokens,
            seed=self.job.config.seed,
            progress=self._progress,
        )
        replace_file(self._work / EVALUATION, found.model_dump_json(indent=1) + "\n")
        return found

    def probe(self) -> Reference:
        """Choose and record the probes, unless that was done. The model is of no use afterwards."""
        if (kept := _kept(self._work / REFERENCE)) is not None:
            return Reference.model_validate_json(kept)
        loaded = self._load_adapter()
        rows: Sequence[Row] = self.splits.test if self.job.probes_from_data else ()
        shown = [row for row in rows if isinstance(row, Example)]
        with self._progress.stage("Choosing and recording the probes"):
            prompts = candidates(loaded.template, self.job.probes, shown)
            found = record(
                loaded.model,
                loaded.template,
                prompts,
                predecessor=self.job.predecessor,
                base_digest=self.job.base.digest,
            )
        self._loaded = None
        replace_file(self._work / REFERENCE, found.model_dump_json(indent=1) + "\n")
        return found

    def finish(self) -> Manifest:
        """Put manifest and card beside the weights, and return the manifest."""
        trained = self.trained()
        manifest = self._manifest(
            evaluation=self.judge(),
            reference=self.probe(),
            history=self._lineage(trained, time.monotonic() - self._began),
        )
        replace_file(self.adapter / CARD, card(manifest), mode=0o644)
        replace_file(self.adapter / MANIFEST, manifest.model_dump_json(indent=1) + "\n", mode=0o644)
        return manifest

    def finish_full(self) -> Lineage:
        """Put the lineage beside a base model that was trained whole, and return it.

        It is no adapter: nothing is attested and no version is made.
        """
        history = self._lineage(self.trained(), time.monotonic() - self._began)
        replace_file(self.adapter / lineage.LINEAGE, history.model_dump_json(indent=1) + "\n", mode=0o644)
        return history

    def trained(self) -> Trained:
        """Return what training did.

        Raises:
            OSError: it has not been done.
        """
        return Trained(**json.loads((self._work / TRAINED).read_text(encoding="utf-8")))

    def _fit(self, loaded: _Loaded, encoded: Sequence[Any], held_out: Sequence[Any]) -> Any:
        from training.fitting.fit import build_trainer, fit  # noqa: PLC0415 - imports torch

        callbacks: list[Any] = []
        listener = self._listener
        if listener is not None:
            from training.runs.callback import Reports  # noqa: PLC0415 - imports transformers

            callbacks.append(Reports(listener))
        with self._progress.stage("Training") as stage:
            if listener is not None:
                listener.shown_on(stage)
            checkpoints = self._checkpoints
            trainer = build_trainer(
                loaded.model,
                encoded,
                held_out,
                self.job.config,
                template=loaded.template,
                scratch=checkpoints or self._work / "trainer",
                on_step=stage.at if listener is None else listener.on_step,
                on_validation=None if listener is None else listener.on_validation,
                callbacks=callbacks,
                checkpoints=checkpoints is not None,
            )
            done = fit(trainer, resume=checkpoints is not None)
        shutil.rmtree(self._work / "trainer", ignore_errors=True)
        return done

    def _load_base(self) -> _Loaded:
        if self._loaded is None:
            from training.fitting.model import load_base  # noqa: PLC0415 - imports torch
            from training.fitting.template import Template  # noqa: PLC0415

            with self._progress.stage("Loading the base model"):
                base = load_base(
                    str(folder_of(self.job.model) or self.job.model),
                    quantization=self.job.config.quantization,
                    full=self.job.config.full,
                )
            template = Template(base.tokenizer, base.stop_ids, instruction=self.job.instruction)
            self._loaded = _Loaded(base, template, None)
        return self._loaded

    def _load_adapter(self) -> _Loaded:
        """Return the model with the adapter as it was trained here, or as it was saved before a stop."""
        quieten()
        keep_to_one_gpu()
        loaded = self._load_base()
        if loaded.model is None:
            from peft import PeftModel  # noqa: PLC0415 - imports torch

            loaded.model = PeftModel.from_pretrained(loaded.base.model, str(self.adapter))
        return loaded

    def _lineage(self, trained: Trained, seconds: float) -> Lineage:
        config: dict[str, Any] = {
            **self.job.config.document(),
            # Where a version's files lay on this machine is no part of its history.
            "parent": self.job.parent,
            "instruction": self.job.instruction,
            # With it `turnout evaluate --held-out` finds the rows again.
            "split": dict(self.job.split or {**asdict(self.job.shares), **AS_THEY_ARE}),
            "compute_dtype": trained.compute_dtype,
            "rows_over_max_tokens": trained.dropped,
            "steps": trained.steps,
            "validation_loss_before": trained.validation_before,
            "validation_loss_after": trained.validation_after,
        }
        return Lineage(
            recipe=self.job.origin.recipe,
            data_source=self.job.origin.data_source,
            data_terms=self.job.origin.data_terms,
            data_fingerprint=self.job.data_fingerprint or lineage.fingerprint(self.job.examples),
            rows=self.splits.counts(),
            config=config,
            command=self.job.origin.command,
            code_version=lineage.code_version(),
            packages=lineage.packages(),
            parent=self.job.parent,
            embedding_sample=self.job.embedding_sample,
            loop_run=self.job.origin.loop_run,
            drift_id=self.job.origin.drift_id,
            curated_fingerprint=self.job.origin.curated,
            read_fingerprint=self.job.read_fingerprint,
            seconds=round(seconds, 1),
        )

    def _manifest(self, *, evaluation: Evaluation, reference: Reference, history: Lineage) -> Manifest:
        facts = inspect(self.adapter, max_rank=None)  # the fleet's limit was looked at before training
        return Manifest(
            name=self.job.name,
            digest=digest_of(self.adapter),
            base=self.job.base,
            rank=facts.rank,
            alpha=facts.alpha,
            target_modules=facts.target_modules,
            dtype=facts.dtype,
            size_bytes=facts.size_bytes,
            source=f"training: {self.job.origin.recipe}",
            created_at=round(time.time(), 3),
            lineage=history,
            evaluation=evaluation,
            reference=reference,
        )


def _kept(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
