"""The other processes of a launcher, such as `accelerate launch` or `torchrun` on several machines.

Every process runs the whole command. The first does everything; the others wait for it to prepare, train with
it and end. The runs' folder must be one that all machines see.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from training.runs.folder import Run
from training.runs.order import Order, order_of
from training.runs.snapshot import Snapshot, snapshot_of


class Companions:
    """Tells the other processes which run to train, once."""

    def __init__(self) -> None:
        self._told = False

    def announce(self, run: Path | None) -> None:
        """Name the run to train, or None where nothing is left to train."""
        self._told = True
        _broadcast(run)

    def part(self) -> None:
        """Go on alone: the others end now."""
        part()

    def dismiss(self) -> None:
        """Let them end, unless they were told something before."""
        if not self._told:
            self.announce(None)


@contextmanager
def dismissing(companions: Companions | None) -> Iterator[None]:
    """Let the other processes end when the block fails before there is anything for them to train."""
    try:
        yield
    except BaseException:
        if companions is not None:
            companions.dismiss()
        raise


def announced() -> Path | None:
    """Wait for the first process to name the run to train, or None where there is nothing to train."""
    return _broadcast(None)


def joined() -> Any:
    """Join the launcher's other processes and return accelerate's view of them."""
    import torch  # noqa: PLC0415 - seconds; errors of the command line come first
    from accelerate import PartialState  # noqa: PLC0415

    return PartialState(cpu=not torch.cuda.is_available())


def part() -> None:
    """Leave the other processes when all have come this far."""
    import torch.distributed as dist  # noqa: PLC0415

    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def rows_and_order(run: Run) -> tuple[Snapshot, Order]:
    """Return the rows and the order of a run that another process has prepared.

    Raises:
        ValueError: they are not there.
    """
    text = run.text("rows.jsonl")
    if text is None:
        raise ValueError(f"{run.path} has no rows; does this machine see the same folder of runs (--runs)?")
    return snapshot_of(text), order_of(run.read().order)


def _broadcast(run: Path | None) -> Path | None:
    import torch  # noqa: PLC0415
    import torch.distributed as dist  # noqa: PLC0415

    device = joined().device
    said = list(str(run).encode()) if run is not None else []
    length = torch.tensor([len(said)], device=device)
    dist.broadcast(length, 0)
    if not int(length):
        return None
    text = torch.tensor(said or [0] * int(length), dtype=torch.uint8, device=device)
    dist.broadcast(text, 0)
    return Path(bytes(text.tolist()).decode())
