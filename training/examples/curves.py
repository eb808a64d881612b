"""Learning curves of the example adapters: the same recipe on half of the rows, a quarter, and so on."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.manifest import Evaluation, Manifest
from training.evaluation.curve import Curve, curve, sizes
from training.evaluation.keeping import write
from training.examples.apart import apart
from training.job import Job, Maker
from training.progress import Progress

LEARN_TOO = ("tf-idf",)
"""Systems that learn from the same rows."""


def learning_curve(
    job: Job,
    manifest: Manifest,
    *,
    points: int,
    progress: Progress,
    kept: Path | None = None,
) -> Curve:
    """Train `job` on fewer and fewer of its rows, and judge each adapter on the same held-out rows.

    The last point, with all rows, is what `manifest` says of the adapter that is there already. Adapters of
    the other points are not kept. Their figures are, in the folder `kept`: a curve that was killed goes on
    where it was. The folder must be of this job, this adapter and this code.

    Raises:
        ValueError: the manifest has no figures, or was judged on other rows than the job holds back.
        OSError: the figures of a point can't be kept.
    """
    if manifest.evaluation is None or manifest.lineage is None:
        raise ValueError(f"{manifest.name} has no figures to end a curve at")
    judged = [(manifest.lineage.rows["train"], manifest.evaluation)]
    for rows in sizes(judged[0][0], points=points)[:-1]:
        file = None if kept is None else kept / f"{rows}.json"
        found = _read(file)
        if found is None:
            progress.step(f"A training on {rows} rows")
            found = _point(job, rows, progress)
            _keep(found, file)
        judged.append((rows, found))
    metric = manifest.evaluation.scores[0].metric
    there = {score.system for score in manifest.evaluation.scores if score.metric == metric}
    return curve(
        judged,
        metric,
        beside=sorted(name for name in there if name.startswith("base-")),
        rivals=[name for name in LEARN_TOO if name in there],
    )


def _point(job: Job, rows: int, progress: Progress) -> Evaluation:
    part = replace(job, shares=replace(job.shares, max_train=rows), alone=True)
    whole = apart(job.examples, job.shares)
    with TemporaryDirectory() as scratch:
        maker = Maker(part, replace(whole, train=whole.train[:rows]), Path(scratch), progress)
        maker.train()
        return maker.judge()


def _read(file: Path | None) -> Evaluation | None:
    """Return the figures of a point, or None where they were never written."""
    if file is None or not file.exists():
        return None
    return Evaluation.model_validate_json(file.read_text(encoding="utf-8"))


def _keep(found: Evaluation, file: Path | None) -> None:
    """Write the figures of a point, whole or not at all."""
    if file is None:
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, found.model_dump_json())
