"""Adds under way: fetching and checking take seconds to minutes, beside the event loop, a few at a time.

An add goes on when its client has left: it is one transaction, bounded in time and size, and the client that
asks again for the same content gets the same version.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.bucket import BucketError
from adapters.inspect import UnservableAdapter
from adapters.progress import Stage
from adapters.registry import Registry
from adapters.sources.fetching import Sources
from adapters.sources.names import SourceRefused
from gateway.errors import Internal, Overloaded, TurnoutError, Unavailable, Unprocessable
from gateway.store.database import StoreUnavailable
from gateway.store.versions import VersionRow

AT_ONCE = 4
WAITING = 16
RETRY_AFTER_S = 10.0
_log = logging.getLogger("turnout.adds")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be added, by whom and why."""

    name: str
    source: str
    actor: str
    why: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far an add is. `total_bytes` is None while nobody knows."""

    stage: Stage
    done_bytes: int
    total_bytes: int | None


class Add:
    """One add under way."""

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        self.progress = Progress("fetching", 0, None)
        self.result: asyncio.Future[tuple[VersionRow, bool]]

    def note(self, stage: Stage, done_bytes: int, total_bytes: int | None) -> None:
        """Take note of progress; called from the add's thread."""
        self.progress = Progress(stage, done_bytes, total_bytes)

    async def wait(self) -> tuple[VersionRow, bool]:
        """Return the version and whether it is new. Leaving early stops nothing.

        Raises:
            TurnoutError: it can't be added; the message says why.
        """
        try:
            return await asyncio.shield(self.result)
        except (UnservableAdapter, OSError, StoreUnavailable) as error:
            raise explain(error, self.wanted.source) from error

    async def done_within(self, seconds: float) -> bool:
        """Wait a while; whether the add has ended, well or not."""
        return bool((await asyncio.wait({self.result}, timeout=seconds))[0])


class Adds:
    """Runs adds on threads of its own, so that other endpoints do not wait for them."""

    def __init__(self, registry: Registry, sources: Sources) -> None:
        self._registry = registry
        self._sources = sources
        self._running: set[Add] = set()
        self._threads: ThreadPoolExecutor | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Take adds for as long as the block lasts; then end fetches and wait for what is being stored."""
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="add")
        try:
            yield
        finally:
            self._sources.stop()
            await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def start(self, wanted: Wanted) -> Add:
        """Begin an add.

        Raises:
            Overloaded: too many wait already.
        """
        if self._threads is None:
            raise Unavailable("the gateway is starting", retry_after_s=RETRY_AFTER_S)
        if len(self._running) >= AT_ONCE + WAITING:
            raise Overloaded(
                f"{len(self._running)} adapters are being added; try again when some are done",
                retry_after_s=RETRY_AFTER_S,
            )
        add = Add(wanted)
        add.result = asyncio.get_running_loop().run_in_executor(self._threads, self._work, add)
        self._running.add(add)
        add.result.add_done_callback(lambda result: self._ended(add, result))
        return add

    def _work(self, add: Add) -> tuple[VersionRow, bool]:
        wanted = add.wanted
        with self._sources.open(wanted.source, progress=add.note) as fetched:
            return self._registry.add(
                wanted.name,
                fetched.folder,
                actor=wanted.actor,
                source=fetched.source,
                why=wanted.why,
                progress=add.note,
            )

    def _ended(self, add: Add, result: asyncio.Future[tuple[VersionRow, bool]]) -> None:
        self._running.discard(add)
        if result.cancelled():
            return
        error = result.exception()  # also when nobody waits for it any more
        if error is None:
            row, new = result.result()
            _log.info("%s was %s", row.ref, "added" if new else "there already")
        elif not isinstance(error, UnservableAdapter | OSError | StoreUnavailable):
            _log.error("adding %s failed", add.wanted.name, exc_info=error)


def explain(error: UnservableAdapter | OSError | StoreUnavailable, source: str) -> TurnoutError:
    """Return the error that a client gets: a source that is at fault told from a disk or a store that is."""
    if isinstance(error, SourceRefused):
        return Unprocessable(str(error), code="source_refused", param="source")
    if isinstance(error, UnservableAdapter):
        return Unprocessable(str(error), code="unservable_adapter")
    if isinstance(error, StoreUnavailable):
        return Unavailable(
            "the store does not answer; nothing was added; try again in a moment",
            code="store_unavailable",
            retry_after_s=RETRY_AFTER_S,
        )
    if isinstance(error, BucketError):
        return Unavailable(
            f"{error.strerror}; nothing was added; the gateway's log and registry.publish_to say more",
            code="not_published",
            retry_after_s=RETRY_AFTER_S,
        )
    cause = error.strerror or type(error).__name__
    if "://" not in source and error.filename is not None:
        folder = Path(source)
        if Path(str(error.filename)).is_relative_to(folder):
            return Unprocessable(f"{folder} can't be read by the gateway: {cause}", param="source")
    return Internal(f"the adapter's files could not be stored: {cause}; nothing was kept")
