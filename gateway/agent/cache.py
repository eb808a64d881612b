"""Brings blobs beside an engine before they are registered there, and keeps them while it may read them.

A blob that an engine process was ever told of is kept until that process has ended, and an hour more: an
engine re-reads an evicted adapter from its path in the middle of a step, and dies when the files are gone. So
only blobs that were last asked for by an earlier incarnation make room for new ones, the least recently asked
for first, and only while the engine can be asked which incarnation it is.
"""

import errno
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from adapters.bucket import PARTS, Bucket, BucketError, NotInBucket
from gateway.agent.figures import GOOD, Figures, Outcome
from gateway.agent.folder import BlobFolder
from gateway.agent.marks import Mark, Marks

GRACE_S = 3600.0
AT_ONCE = 2
RETRY_FIRST_S = 2.0
RETRY_LONGEST_S = 120.0
SPARE_BYTES = 64 * 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_log = logging.getLogger("turnout.agent")

State = Literal["whole", "fetching", "failed"]


@dataclass(frozen=True, slots=True)
class Answer:
    """How a blob is: in place and verified, on its way, or not to be had now and why."""

    state: State
    done_bytes: int = 0
    total_bytes: int | None = None
    reason: str | None = None


class NoRoom(Exception):
    """Neither the bound of the cache nor the disk leaves room; the message says what keeps it."""


@dataclass(slots=True)
class _Work:
    total_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class _Failure:
    reason: str
    in_a_row: int
    again_at: float


class Cache:
    """The blobs of one machine. `incarnation()` asks the engine who it is; None when it does not say."""

    def __init__(
        self,
        folder: BlobFolder,
        marks: Marks,
        bucket: Bucket,
        *,
        max_bytes: int,
        incarnation: Callable[[], str | None],
        figures: Figures | None = None,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.figures = figures or Figures(max_bytes=max_bytes, wall=wall)
        self._folder = folder
        self._marks = marks
        self._bucket = bucket
        self._max_bytes = max_bytes
        self._incarnation = incarnation
        self._wall = wall
        self._clock = clock
        self._lock = threading.Lock()
        self._room = threading.Lock()
        self._working: dict[str, _Work] = {}
        self._claimed: dict[str, int] = {}
        self._failures: dict[str, _Failure] = {}
        self._threads = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="fetch")
        self.figures.watch(sizes=folder.sizes, free=folder.free_bytes, coming=lambda: len(self._working))

    def close(self) -> None:
        """End in good order: what has come of a blob stays for the next start."""
        self._threads.shutdown(cancel_futures=True)

    def ensure(self, name: str, incarnation: str) -> Answer:
        """Keep a blob for an incarnation, and bring it when it is not in place. Never waits for that.

        Raises:
            OSError: who asks can't be noted, so the blob must not be loaded.
        """
        with self._lock:
            self._marks.set(name, Mark(incarnation, self._wall()))
            if self._folder.known_whole(name):
                return Answer("whole")
            work = self._working.get(name)
            if work is not None:
                return Answer("fetching", self._folder.gathered_bytes(name), work.total_bytes)
            failure = self._failures.get(name)
            if failure is not None and self._clock() < failure.again_at:
                return Answer("failed", reason=failure.reason)
            self._working[name] = _Work()
            self._threads.submit(self._bring, name)
            return Answer("fetching", self._folder.gathered_bytes(name))

    def free_bytes(self) -> int:
        """Return the room on the disk that the blobs are on."""
        return self._folder.free_bytes()

    def listing(self) -> list[dict[str, object]]:
        """Return what is in place, with whom it is kept for."""
        rows: list[dict[str, object]] = []
        for name, size in self._folder.sizes().items():
            mark = self._marks.get(name)
            rows.append(
                {
                    "digest": f"sha256:{name}",
                    "bytes": size,
                    "incarnation": mark.incarnation,
                    "asked_at": mark.asked_at,
                }
            )
        return rows

    def _bring(self, name: str) -> None:
        """Do the work of one blob, in a thread; how it ended is there for the next who asks."""
        reason: str = ""
        try:
            outcome: Outcome = self._fetch(name)
        except NotInBucket as error:
            outcome = "missing"
            reason = f"{error.strerror}: was it added before registry.publish_to was set? Add it again"
        except BucketError as error:
            outcome, reason = "bucket", str(error.strerror)
        except NoRoom as error:
            outcome, reason = "room", str(error)
        except OSError as error:
            if error.errno in _FULL:
                self._folder.discard(name)  # its pieces are what can be given back
            outcome = "room" if error.errno in _FULL else "disk"
            reason = f"its machine's disk refuses: {error.strerror or type(error).__name__}"
        except Exception as error:  # noqa: BLE001 - the outermost handler of a thread
            _log.exception("fetching %s failed", name[:12])
            outcome, reason = "fault", f"fetching it failed ({type(error).__name__})"
        with self._lock:
            del self._working[name]
            self._claimed.pop(name, None)
            self._note(name, outcome, reason)

    def _note(self, name: str, outcome: Outcome, reason: str) -> None:
        self.figures.ended(outcome)
        if outcome in GOOD:
            self._failures.pop(name, None)
            _log.info("%s is in place", name[:12])
            return
        before = self._failures.get(name)
        in_a_row = before.in_a_row + 1 if before else 1
        pause_s = min(RETRY_FIRST_S * 2.0 ** min(in_a_row - 1, 10), RETRY_LONGEST_S)
        self._failures[name] = _Failure(reason, in_a_row, self._clock() + pause_s)
        _log.warning("%s is not in place: %s", name[:12], reason)

    def _fetch(self, name: str) -> Outcome:
        if self._folder.verify(name):  # from an earlier run of the agent
            return "found"
        digest = f"sha256:{name}"
        sizes = self._bucket.sizes(digest)
        self._working[name].total_bytes = sum(sizes.values())
        self._make_room(name, sum(sizes.values()))
        pieces = self._folder.pieces(name)
        for part in PARTS:
            target = pieces / part
            if target.is_file() and target.stat().st_size > sizes[part]:
                target.unlink()
            before = self._folder.gathered_bytes(name)
            try:
                self._bucket.get(digest, part, target, size=sizes[part])
            finally:
                self.figures.came(self._folder.gathered_bytes(name) - before)
        if not self._folder.place(name):
            raise BucketError(errno.EIO, f"what came from {self._bucket.url} does not have its digest")
        return "fetched"

    def _make_room(self, name: str, wanted: int) -> None:
        """Remove what no engine can read any more until a blob of so many bytes fits.

        Raises:
            NoRoom: it does not fit.
        """
        with self._room:
            missing = self._missing(name, wanted)
            if missing > 0:
                with self._lock:
                    self._folder.discard_others(set(self._working))
                current = self._incarnation()
                for old in self._idle(current, but=name) if current is not None else ():
                    if missing <= 0:
                        break
                    self._let_go(old, current)
                    missing = self._missing(name, wanted)
            if missing > 0:
                raise NoRoom(
                    f"there is no room for it beside the engine: {missing} bytes are missing, and what is "
                    "there may still be read by it; raise --max-gib, or give the disk more room"
                )
            with self._lock:
                self._claimed[name] = wanted

    def _missing(self, name: str, wanted: int) -> int:
        """Return how many bytes are missing for a blob, of the bound or of the disk."""
        here = sum(size for other, size in self._folder.sizes().items() if other != name)
        with self._lock:
            coming = sum(size for other, size in self._claimed.items() if other != name)
            still = sum(
                max(0, size - self._folder.gathered_bytes(other))
                for other, size in self._claimed.items()
                if other != name
            )
        over = here + coming + wanted - self._max_bytes
        needed = wanted - self._folder.gathered_bytes(name) + still + SPARE_BYTES
        return max(over, needed - self._folder.free_bytes())

    def _idle(self, current: str | None, *, but: str) -> list[str]:
        """Return the blobs that no engine can read any more, the least recently asked for first."""
        horizon = self._wall() - GRACE_S
        found = []
        for name in self._folder.names():
            mark = self._marks.get(name)
            if mark.incarnation is None:
                # Whoever runs now may read it: it is free once another incarnation has come.
                self._marks.set(name, Mark(current, self._wall()))
            elif name != but and mark.incarnation != current and mark.asked_at < horizon:
                found.append((mark.asked_at, name))
        return [name for _, name in sorted(found)]

    def _let_go(self, name: str, current: str | None) -> None:
        """Remove a blob, unless somebody has asked for it meanwhile."""
        with self._lock:
            mark = self._marks.get(name)
            if mark.incarnation == current or mark.asked_at >= self._wall() - GRACE_S:
                return
            self._folder.remove(name)
            self._marks.drop(name)
            self.figures.removed()
            _log.info("%s made room; the engine that used it has ended", name[:12])
