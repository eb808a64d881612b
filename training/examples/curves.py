"""Learning curves of the example adapters: the same recipe on half of the rows, a quarter, and so on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from adapters.manifest import Evaluation, Manifest
from training.data.splits import split
from training.evaluation.curve import Curve, curve, sizes
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
    on_point: Callable[[int, Evaluation], None] = lambda _rows, _found: None,
) -> Curve:
    """Train `job` on fewer and fewer of its rows, and judge each adapter on the same held-out rows.

    The last point, with all rows, is what `manifest` says of the adapter that is there already. Adapters of
    the other points are not kept.

    Raises:
        ValueError: the manifest has no figures, or was judged on other rows than the job holds back.
    """
    if manifest.evaluation is None or manifest.lineage is None:
        raise ValueError(f"{manifest.name} has no figures to end a curve at")
    judged = [(manifest.lineage.rows["train"], manifest.evaluation)]
    for rows in sizes(judged[0][0], points=points)[:-1]:
        part = replace(job, shares=replace(job.shares, max_train=rows), alone=True)
        with TemporaryDirectory() as scratch:
            maker = Maker(part, split(part.examples, part.shares), Path(scratch), progress)
            maker.train()
            found = maker.judge()
        judged.append((rows, found))
        on_point(rows, found)
    metric = manifest.evaluation.scores[0].metric
    there = {score.system for score in manifest.evaluation.scores if score.metric == metric}
    return curve(
        judged,
        metric,
        beside=sorted(name for name in there if name.startswith("base-")),
        rivals=[name for name in LEARN_TOO if name in there],
    )
