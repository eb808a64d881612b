"""A process that adds an adapter and fails on purpose: `python -m tests.adapters.crash_driver MODE FOLDER`.

`crash` ends the process at the n-th step of an add, without any clean-up, for every n; `full` lets the n-th
step fail as a full disk does; `together` lets processes add at once. Prints the number of steps.
"""

import errno
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import OperationalError

from adapters.manifest import BaseIdentity
from adapters.registry import Registry, digest_of
from gateway.store import schema
from gateway.store.database import Database, StoreUnavailable
from gateway.store.versions import Versions
from tests.adapters.folders import BASE_NAME, make_adapter

CRASHED = 9
SURVIVED = 10
"""The step failed and did not matter, such as making a folder that is there."""

WRITING = ("mkdir", "rename", "fsync")
TOUCHING = (*WRITING, "chmod", "replace", "rmdir", "unlink")


class Steps:
    """Counts steps, and fails at the one that is named."""

    def __init__(self, fail_at: int, fail: Callable[[], None]) -> None:
        self.count = 0
        self._fail_at = fail_at
        self._fail = fail

    def step(self, *_: Any) -> None:
        """Take one step."""
        self.count += 1
        if self.count == self._fail_at:
            self._fail()

    def around(self, owner: Any, name: str, *, after: bool) -> None:
        """Make each call of a function a step, and another one when it is done."""
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.step()
            result = real(*args, **kwargs)
            if after:
                self.step()
            return result

        setattr(owner, name, call)

    def inside_copies(self) -> None:
        """Make the middle of a copied file a step."""
        real = shutil.copyfile

        def copy(origin: Path, target: Path) -> None:
            target.write_bytes(origin.read_bytes()[: origin.stat().st_size // 2])
            self.step()
            target.unlink()
            real(origin, target)

        shutil.copyfile = copy  # type: ignore[assignment]


def registry_at(folder: Path) -> tuple[Registry, Versions, Database]:
    """Return a registry on a store of its own."""
    database = Database(f"sqlite:///{folder}/control.db", "control")
    with database.write() as connection:
        schema.control.create_all(connection)
    versions = Versions(database)
    base = BaseIdentity(name=BASE_NAME)
    return Registry(folder / "adapters", versions, base=base, max_rank=16), versions, database


def whole(folder: Path) -> tuple[int, int, int]:
    """Check that each version has its blob and each blob its digest; count versions, blobs and scratch."""
    registry, versions, database = registry_at(folder)
    rows = versions.rows()
    blobs = list((registry.root / "blobs").glob("*"))
    for path in blobs:
        assert digest_of(path) == f"sha256:{path.name}", "a blob that is not whole"
    for row in rows:
        assert registry.verify(row.digest), "a version without its blob"
    database.close()
    return len(rows), len(blobs), len(list((registry.root / "incoming").glob("*")))


def add_again(folder: Path, source: Path) -> None:
    """Add as if nothing had happened."""
    registry, _, database = registry_at(folder)
    row, _ = registry.add("support", source, actor="me")
    assert str(row.ref) == "support@1"
    assert registry.verify(row.digest)
    database.close()


def child(work: Callable[[], int]) -> int:
    """Do something in a process of its own and return its exit code."""
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def crash_at(folder: Path, source: Path, n: int) -> int:
    """Add, and die at step `n`."""
    registry, _, database = registry_at(folder)
    steps = Steps(n, lambda: os._exit(CRASHED))
    for name in TOUCHING:
        steps.around(os, name, after=True)
    steps.inside_copies()
    for name in ("before_cursor_execute", "after_cursor_execute", "commit"):
        event.listen(database._engine, name, steps.step)
    registry.add("support", source, actor="me")
    return 0


def full_at(folder: Path, source: Path, n: int) -> int:
    """Add with a disk that is full at step `n`; whatever was written is gone when the error arrives."""
    registry, _, database = registry_at(folder)
    in_store = False

    def fail() -> None:
        if in_store:
            raise OperationalError("INSERT", {}, Exception("database or disk is full"))
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    steps = Steps(n, fail)

    def statement(*_: Any) -> None:
        nonlocal in_store
        in_store = True
        steps.step()
        in_store = False

    for name in WRITING:
        steps.around(os, name, after=False)
    steps.inside_copies()
    for name in ("before_cursor_execute", "commit"):
        event.listen(database._engine, name, statement)
    try:
        registry.add("support", source, actor="me")
    except (OSError, StoreUnavailable) as error:
        told = str(error)
        database.close()
        assert "No space left" in told or "disk is full" in told, told
        assert whole(folder) == (0, 0, 0), f"step {n} left something behind"
        return CRASHED
    return 0 if steps.count < n else SURVIVED


def every_step(folder: Path, attempt: Callable[[Path, Path, int], int]) -> int:
    """Fail at the first step, the second, …, until an add gets through; return the number of steps."""
    source = make_adapter(folder / "source")
    n = 0
    while True:
        n += 1
        place = folder / str(n)
        place.mkdir()
        code = child(lambda place=place, n=n: attempt(place, source, n))  # type: ignore[misc]
        assert code in {0, CRASHED, SURVIVED}, f"step {n}: exit code {code}"
        versions, blobs, _ = whole(place)
        assert versions in {0, 1}
        assert blobs in {0, 1}
        add_again(place, source)
        assert whole(place)[:2] == (1, 1)
        if code == 0:
            return n - 1


def together(folder: Path) -> int:
    """Let four processes add the same six adapters at once, under one name."""
    sources = [make_adapter(folder / f"source-{seed}", seed=seed) for seed in range(6)]
    registry_at(folder)[2].close()

    def add_all() -> int:
        registry, _, _ = registry_at(folder)
        for source in sources:
            registry.add("support", source, actor="me")
        return 0

    running = []
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                code = add_all()
            finally:
                os._exit(code)
        running.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in running] == [0, 0, 0, 0]
    assert whole(folder) == (6, 6, 0)
    return len(sources)


def main() -> None:
    """Do what the command line says."""
    mode, folder = sys.argv[1], Path(sys.argv[2])
    if mode == "together":
        sys.stdout.write(str(together(folder)))
    else:
        sys.stdout.write(str(every_step(folder, {"crash": crash_at, "full": full_at}[mode])))


if __name__ == "__main__":
    main()
