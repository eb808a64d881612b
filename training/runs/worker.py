"""One of the processes that train a run together: `python -m training.runs.worker RUN`, under a launcher.

It trains and nothing else; the first of them writes the adapter and the figures. The process that started
them holds the run's lock, judges and publishes.
"""

import signal
import sys
from pathlib import Path

from training.fitting.world import rank
from training.job import Maker
from training.progress import Progress
from training.runs.companions import joined, part, rows_and_order
from training.runs.folder import Run
from training.runs.order import Order
from training.runs.recorder import Recorder
from training.runs.session import job_of
from training.runs.spread import leave_fault
from training.runs.tracking import Silent, Tracker, tracker_of


def train_along(run: Run) -> None:
    """Train a run with the launcher's other processes."""
    first = rank() == 0
    progress = Progress(quiet=not first)
    snapshot, order = rows_and_order(run)
    tracker = _begun(run, order, progress) if first else Silent()
    recorder = Recorder(run, tracker) if first else None
    try:
        state = run.read()
        joined()
        maker = Maker(
            job_of(state, order, snapshot.splits),
            snapshot.splits,
            run.path,
            progress,
            checkpoints=run.checkpoints,
            listener=recorder,
        )
        maker.train(first=first)
        if recorder is not None:
            recorder.done()
    finally:
        tracker.flush()
    part()


def _begun(run: Run, order: Order, progress: Progress) -> Tracker:
    """Return a tracker of the run that the starting process has begun, and goes on with afterwards."""
    tracker = tracker_of(
        order.track, uri=order.track_uri, root=run.path.parent, run=run.path, warn=progress.say
    )
    tracker.start(run.path.name, {})
    return tracker


def main(path: Path) -> int:
    """Train and return the exit code; why it failed stands in the run's folder."""
    run = Run(path)
    try:
        train_along(run)
    except KeyboardInterrupt:
        return 130
    except (ValueError, OSError) as error:
        leave_fault(run, error)
        return 1
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main(Path(sys.argv[1])))
