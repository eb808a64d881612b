"""What a process does that a launcher started beside the first one: it trains along, and ends."""

from training.job import Maker
from training.progress import Progress
from training.runs.companions import announced, part, rows_and_order
from training.runs.folder import Run
from training.runs.session import job_of


def train_along() -> None:
    """Train what the first process has prepared; nothing where it failed before, or has nothing to train.

    Raises:
        ValueError: this machine does not see the run's folder.
    """
    path = announced()
    if path is None:
        return
    run = Run(path)
    snapshot, order = rows_and_order(run)
    Maker(
        job_of(run.read(), order, snapshot.splits),
        snapshot.splits,
        run.path,
        Progress(quiet=True),
        checkpoints=run.checkpoints,
    ).train(first=False)
    part()
