"""Coroutines without tasks: run at once, and resumed in the very callback that brings what they wait for.

A task costs two rounds through the event loop for each thing it waits for, which is more than all that the
gateway itself does with a request. A `Drive` runs its coroutine in the step that starts it and goes on
with it in the step that opens the `Gate` it waits at. Anything else that asyncio's futures offer can be
awaited too, but no task is current meanwhile: what needs one (`asyncio.timeout`) is awaited through
`in_task`.
"""

import asyncio
from collections.abc import Callable, Coroutine, Generator
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")


class Gate:
    """Something that one coroutine waits for; `open` lets it go on, before it returns when a Drive runs it.

    It is awaited like a future, by a task as well. Make a new one for each wait.
    """

    __slots__ = ("_asyncio_future_blocking", "_cancelled", "_drive", "_loop", "_open", "_wakeup")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False
        self._cancelled = False
        self._drive: Drive | None = None
        self._loop = loop
        self._open = False
        self._wakeup: Callable[[Any], object] | None = None

    def open(self) -> None:
        """Let the waiting coroutine go on. A second call does nothing."""
        if self._open:
            return
        self._open = True
        drive, self._drive = self._drive, None
        if drive is not None:
            drive.resume()
        else:
            self._wake_task()

    def __await__(self) -> Generator["Gate", None, None]:
        """Wait until it is open."""
        if not self._open:
            self._asyncio_future_blocking = True
            yield self

    # --- for a Drive --------------------------------------------------------------------------------------

    def attach(self, drive: "Drive | None") -> None:
        """Resume this drive when it opens; None takes the drive back."""
        self._drive = drive

    # --- for a task: the part of a future's methods that tasks use ----------------------------------------

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop it belongs to."""
        return self._loop

    def add_done_callback(self, wakeup: Callable[[Any], object], *, context: Any = None) -> None:  # noqa: ARG002
        """Take the waiting task's wake-up call."""
        self._wakeup = wakeup

    def result(self) -> None:
        """Return when it was opened.

        Raises:
            asyncio.CancelledError: the task was woken to be cancelled.
        """
        if self._cancelled:
            raise asyncio.CancelledError

    def cancel(self, msg: Any = None) -> bool:  # noqa: ARG002 - as a future's
        """Wake the task that is being cancelled."""
        if self._open:
            return False
        self._cancelled = True
        self._wake_task()
        return True

    def _wake_task(self) -> None:
        wakeup, self._wakeup = self._wakeup, None
        if wakeup is not None:
            self._loop.call_soon(wakeup, self)


class Drive:
    """Runs one coroutine. Belongs to one event loop; nothing of it may be called from another thread."""

    __slots__ = ("_cancelled", "_coroutine", "_done", "_ended", "_waiting")

    def __init__(self, coroutine: Coroutine[Any, Any, None], done: Callable[[], object]) -> None:
        """`done` is called when the coroutine has ended, however it did."""
        self._coroutine = coroutine
        self._done = done
        self._waiting: Any = None
        self._cancelled = False
        self._ended = False

    def start(self) -> None:
        """Run the coroutine until it first has to wait."""
        self._step(None)

    def resume(self) -> None:
        """Go on: what the coroutine waited for is there."""
        self._step(None)

    def cancel(self, msg: Any = None) -> None:  # noqa: ARG002 - as a task's
        """Raise CancelledError in the coroutine: now when it waits, else where it waits next.

        What it waits for in a task of its own is cancelled first, and the coroutine hears of it then.
        """
        if self._ended:
            return
        waiting = self._waiting
        if waiting is None:
            self._cancelled = True
        elif isinstance(waiting, Gate):
            waiting.attach(None)
            self._step(asyncio.CancelledError())
        elif not waiting.cancel():
            self._cancelled = True

    def _step(self, error: BaseException | None) -> None:
        self._waiting = None
        try:
            waiting = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration:
            self._end()
        except asyncio.CancelledError:
            self._end()
        except BaseException:
            self._end()
            raise
        else:
            self._wait_for(waiting)

    def _wait_for(self, waiting: Any) -> None:
        if waiting is None:  # asyncio.sleep(0)
            waiting = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(waiting.set_result, None)
        waiting._asyncio_future_blocking = False  # noqa: SLF001 - how futures and those who wait for them agree
        self._waiting = waiting
        if isinstance(waiting, Gate):
            waiting.attach(self)
        else:
            waiting.add_done_callback(self._resumed)
        if self._cancelled:
            self._cancelled = False
            self.cancel()

    def _resumed(self, _future: Any) -> None:
        self._step(None)

    def _end(self) -> None:
        self._ended = True
        self._done()


async def in_task(
    work: Coroutine[Any, Any, ResultT], *, unclaimed: Callable[[ResultT], object] = lambda _: None
) -> ResultT:
    """Await `work` in a task of its own, for what needs one. Cancelling the caller cancels it.

    `unclaimed` gets a result that came in the very step in which the caller was cancelled.
    """
    task = asyncio.get_running_loop().create_task(work)
    try:
        return await task
    except asyncio.CancelledError:
        if task.done() and not task.cancelled() and task.exception() is None:
            unclaimed(task.result())
        raise
