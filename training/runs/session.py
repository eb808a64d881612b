"""One run from its order to a published version, stage by stage; and going on with one that was stopped."""

import contextlib
import getpass
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from adapters.base import digest_of_model
from adapters.manifest import BaseIdentity, EmbeddingSample, Manifest
from adapters.registry import MANIFEST, digest_of
from gateway.core.refs import VersionRef
from training.data.rows import Row
from training.data.splits import Splits
from training.environment import quieten
from training.job import Job, Maker, Origin
from training.progress import Progress
from training.publishing.lineage import LINEAGE
from training.publishing.probes import NEUTRAL
from training.publishing.publish import newest, publish
from training.runs.companions import Companions, dismissing
from training.runs.folder import Run, RunState, appearing, runs_dir, silent_end
from training.runs.order import Order, command_line, config_changes, order_of
from training.runs.preparing import check, fleet_of, prepared
from training.runs.recorder import Recorder
from training.runs.settings import config_document, config_of
from training.runs.snapshot import Snapshot, snapshot_of
from training.runs.sources import split_of
from training.runs.tracking import Tracker, tracker_of

EMBEDDINGS = "embeddings.json"
MEMORY = frozenset({"accumulation", "gradient_checkpointing", "unpack_base"})
"""Settings that change what a step takes, and not what it does."""

MAY_CHANGE = MEMORY | {"store_url"}
"""Options that a resumed run may get anew."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a run has made: a folder, and a version where it was published. No manifest: a base model."""

    manifest: Manifest | None
    ref: VersionRef | None
    folder: Path
    run: Path


def begin(order: Order, progress: Progress, *, companions: Companions | None = None) -> Result:
    """Make a run's folder and work on it to the end, with `companions` where a launcher started more.

    Raises:
        ValueError: the order or the rows can't be trained with. No folder is left.
        OSError: something can't be read or written. A run that has begun to train can be resumed.
    """
    with dismissing(companions):
        check(order)
        run = Run.create(runs_dir(order.runs), str(order.name))
        run.update(order=order.document(), command=command_line(order))
        return Session(run, order, progress, companions=companions).work()


def resume(
    run: Run,
    progress: Progress,
    *,
    changes: Mapping[str, Any] | None = None,
    companions: Companions | None = None,
) -> Result:
    """Go on with a run from where it was stopped. Stages that are done are not repeated.

    `changes` are options of `MAY_CHANGE`: the control database, where the run's own held a password, which is
    not kept; and what makes the same steps fit into less memory.

    Raises:
        ValueError: the run is finished, or can't go on as it is.
        OSError: something can't be read or written.
    """
    state = run.read()
    if state.state == "finished":
        run.tidy()  # it may have died between its last two lines
        raise ValueError(f"{run.path} is finished" + (f": {state.version}" if state.version else ""))
    order = replace(order_of(state.order), **(changes or {}))
    if silent := silent_end(state):
        progress.say(f"note: the run ended {silent}")
    if "***" in (order.store_url or ""):
        raise ValueError(
            "the run's control database was named with a password, which is not kept: give --store-url "
            "again, or set TURNOUT_STORE__CONTROL_URL"
        )
    if memory := _memory(order):
        config = replace(config_of(state.config), **memory) if state.config else None
        run.update(
            order=order.document(),
            command=command_line(order),
            config={} if config is None else config_document(config),
        )
    with dismissing(companions):
        return Session(run, order, progress, companions=companions).work()


class Session:
    """Works on one run, whose lock it holds."""

    def __init__(
        self, run: Run, order: Order, progress: Progress, *, companions: Companions | None = None
    ) -> None:
        """`companions` are the other processes of a launcher, of which this is the first."""
        self._companions = companions
        self._run = run
        self._order = order
        self._progress = progress
        self._tracker: Tracker = tracker_of(
            order.track,
            uri=order.track_uri,
            root=run.path.parent,
            run=run.path,
            warn=progress.say,
        )

    def work(self) -> Result:
        """Do what is left of the run."""
        quieten()  # the check of the rows may import torch already
        with self._accounted():
            snapshot = self._snapshot()
            self._progress.say(f"run folder: {self._run.path}")
            state = self._run.read()
            self._tracker.start(self._run.path.name, {**state.config, **_flat(state.data)})
            if self._order.search:
                self._search(snapshot)
            maker = self._train(snapshot)
            if maker.job.config.full:
                return self._finish_full(maker)
            return self._finish(maker)

    def _snapshot(self) -> Snapshot:
        """Return the run's rows: those that it began with, or those of its source when it had none yet."""
        if (text := self._run.text("rows.jsonl")) is not None:
            return snapshot_of(text)
        self._run.update(state="preparing")
        found = prepared(self._order, self._run.path, self._progress)
        self._run.update(
            config=config_document(found.config),
            base=found.base.model_dump(),
            data=found.data,
            parent=None if found.parent is None else found.parent.name,
        )
        if found.embedding_sample is not None:
            self._run.write(EMBEDDINGS, found.embedding_sample.model_dump_json() + "\n")
        # The rows come last: where they are, everything else is.
        self._run.write("rows.jsonl", found.snapshot.text())
        return found.snapshot

    def _search(self, snapshot: Snapshot) -> None:
        from training.runs.search import search  # noqa: PLC0415 - brings optuna

        self._run.update(state="training")
        best = search(self._run, self._order, snapshot, self._job(snapshot), self._progress)
        try:
            # The best settings may have been written down before a resume that wants less memory.
            config = replace(best, **_memory(self._order))
        except ValueError as error:
            raise ValueError(
                f"{error}; the search has chosen that batch size: give --resume another --accumulation"
            ) from error
        self._run.update(config=config_document(config))
        for name in ("trials.md", "trials.png", "importance.png"):
            self._tracker.artifact(self._run.path / name)

    def _train(self, snapshot: Snapshot) -> Maker:
        self._run.update(state="training")
        recorder = Recorder(self._run, self._tracker)
        maker = Maker(
            self._job(snapshot),
            snapshot.splits,
            self._run.path,
            self._progress,
            checkpoints=self._run.checkpoints,
            listener=recorder,
        )
        if self._companions is not None:
            self._companions.announce(None if maker.adapter.is_dir() else self._run.path)
        if maker.adapter.is_dir():
            return maker
        if self._order.on is not None:
            from training.runs.ray_cluster import train_on_cluster  # noqa: PLC0415 - brings ray

            train_on_cluster(
                self._run, self._order, snapshot, maker.job, recorder=recorder, progress=self._progress
            )
        elif (self._order.processes or 1) > 1:
            from training.runs.spread import train_in_processes  # noqa: PLC0415 - starts them

            train_in_processes(self._run, int(self._order.processes or 1), self._progress)
        else:
            maker.train()
            recorder.done()
        if self._companions is not None:
            self._companions.part()
        return maker

    def _finish(self, maker: Maker) -> Result:
        """Judge, probe, write manifest and card, publish, and tidy up."""
        self._run.update(state="evaluating")
        maker.judge()
        self._run.update(state="publishing")
        manifest = maker.finish()
        ref = None
        if self._order.publish:
            with self._progress.stage("Publishing"):
                row, _ = publish(
                    manifest.name,
                    maker.adapter,
                    fleet=fleet_of(self._order),
                    base=manifest.base,
                    actor=actor(),
                )
            ref = row.ref
        folder = self._put_out(maker.adapter)
        self._track_end(manifest, maker.adapter)
        self._run.update(
            state="finished",
            version=None if ref is None else str(ref),
            steps=maker.trained().steps,
            error=None,
        )
        self._run.tidy()
        return Result(manifest, ref, folder, self._run.path)

    def _finish_full(self, maker: Maker) -> Result:
        """Put a base model that was trained whole where the order wants it."""
        self._run.update(state="publishing")
        maker.finish_full()
        out = self._put_out(maker.adapter)
        self._tracker.end(ok=True)
        self._run.update(state="finished", steps=maker.trained().steps, error=None)
        shutil.rmtree(maker.adapter, ignore_errors=True)
        self._run.tidy()
        return Result(None, None, out, self._run.path)

    def _put_out(self, adapter: Path) -> Path:
        """Copy what was made to where the order wants it, unless this run has done so before."""
        out = self._order.out
        if out is None:
            return adapter
        if out.exists():
            if _is_copy(out, adapter):
                return out
            raise FileExistsError(f"--out {out} has appeared meanwhile, and is not this run's; remove it")
        with appearing(out) as scratch:
            shutil.copytree(adapter, scratch, dirs_exist_ok=True)
        return out

    def _job(self, snapshot: Snapshot) -> Job:
        state = self._run.read()
        job = job_of(state, self._order, snapshot.splits)
        if (kept := self._run.text(EMBEDDINGS)) is not None:
            job = replace(job, embedding_sample=EmbeddingSample.model_validate_json(kept))
        if not self._order.publish:
            return job
        return replace(job, predecessor=newest(state.name, fleet_of(self._order)))

    def _track_end(self, manifest: Manifest, adapter: Path) -> None:
        scores = manifest.evaluation.scores if manifest.evaluation else ()
        self._tracker.metrics(0, {f"test/{score.system}/{score.metric}": score.value for score in scores})
        for path in (self._run.plot, self._run.metrics, adapter):
            self._tracker.artifact(path)
        self._tracker.end(ok=True)

    @contextlib.contextmanager
    def _accounted(self) -> Iterator[None]:
        """Write down how the work ended, and let go of the run. What has not begun leaves no folder."""
        try:
            yield
        except BaseException as error:
            stopped = isinstance(error, KeyboardInterrupt | SystemExit)
            self._ended("killed" if stopped else "failed", error)
            raise
        finally:
            self._run.release()

    def _ended(self, state: str, error: BaseException) -> None:
        if not self._run.rows.is_file():
            self._run.remove()
            return
        with contextlib.suppress(OSError):  # the disk that is full may be the very reason
            self._run.update(state=state, error=None if state == "killed" else f"{error}"[:2000])
        self._tracker.end(ok=False)
        self._progress.say(f"go on with: turnout train --resume {self._run.path}")


def _memory(order: Order) -> dict[str, Any]:
    """Return the settings of an order that change what a step takes."""
    return {name: value for name, value in config_changes(order).items() if name in MEMORY}


def _is_copy(out: Path, made: Path) -> bool:
    """Whether a folder holds the weights of another, and beside them what says where they come from."""
    if (made / LINEAGE).is_file():  # a base model that was trained whole has no manifest
        return (out / LINEAGE).is_file() and digest_of_model(out) == digest_of_model(made)
    return (out / MANIFEST).is_file() and digest_of(out) == digest_of(made)


def job_of(state: RunState, order: Order, splits: Splits[Row]) -> Job:
    """Return the job that a run's state describes."""
    rows = (*splits.train, *splits.validation, *splits.test)
    return Job(
        name=state.name,
        examples=rows,
        model=order.base,
        base=BaseIdentity(**state.base),
        origin=Origin(
            "turnout train",
            state.data["source"],
            state.data["terms"],
            state.command,
            loop_run=order.loop_run,
            drift_id=order.drift_id,
            curated=order.curated,
        ),
        config=config_of(state.config),
        instruction=order.instruction,
        metrics=tuple(order.metric) if order.metric else None,
        shots=order.shots,
        probes=tuple(order.probe) if order.probe else NEUTRAL,
        probes_from_data=order.probes_from_data,
        parent=state.parent,
        data_fingerprint=state.data["fingerprint"],
        read_fingerprint=state.data.get("read_fingerprint"),  # runs of older releases have none
        split=split_of(order),
    )


def actor() -> str:
    """Return who publishes, for the audit log."""
    try:
        return f"train:{getpass.getuser()}"
    except (KeyError, OSError):  # a container's user may have no name
        return f"train:uid{os.getuid()}"


def _flat(data: dict[str, object]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            found.update({f"data.{key}.{part}": each for part, each in value.items()})
        else:
            found[f"data.{key}"] = value
    return found
