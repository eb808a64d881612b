"""Coroutines that run without a task: in the step that starts them, and in the step that opens their gate."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from gateway.eager import Drive, Gate, in_task

Scene = Callable[[], Awaitable[None]]


def play(scene: Scene) -> None:
    """Run a scene, within ten seconds."""

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await scene()

    asyncio.run(bounded())


def test_a_drive_runs_in_the_steps_of_its_callers() -> None:
    """It runs until it has to wait before `start` returns, and to its end before `open` does."""

    async def scene() -> None:
        gate = Gate(asyncio.get_running_loop())
        said: list[str] = []

        async def work() -> None:
            said.append("begun")
            await gate
            said.append("gone on")

        Drive(work(), lambda: said.append("over")).start()
        assert said == ["begun"]
        gate.open()
        assert said == ["begun", "gone on", "over"]
        gate.open()
        assert said == ["begun", "gone on", "over"]

    play(scene)


def test_an_open_gate_holds_nobody_up() -> None:
    """Who comes to a gate that is open goes on at once."""

    async def scene() -> None:
        gate = Gate(asyncio.get_running_loop())
        gate.open()
        await gate
        over: list[bool] = []

        async def work() -> None:
            await gate

        Drive(work(), lambda: over.append(True)).start()
        assert over

    play(scene)


def test_a_task_may_wait_at_a_gate() -> None:
    """A task that waits goes on when it opens; one that is cancelled while it waits is cancelled."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        first, second = Gate(loop), Gate(loop)

        async def wait(gate: Gate) -> str:
            await gate
            return "through"

        through, cancelled = asyncio.create_task(wait(first)), asyncio.create_task(wait(second))
        await asyncio.sleep(0)
        first.open()
        assert await through == "through"
        cancelled.cancel()
        second.open()  # too late: the cancellation must not be lost
        with pytest.raises(asyncio.CancelledError):
            await cancelled

    play(scene)


@pytest.mark.parametrize("kind", ["gate", "future", "task", "sleep"])
def test_cancelling(kind: str) -> None:
    """CancelledError is raised where the coroutine waits, whatever for; what runs for it ends first."""

    async def scene() -> None:
        loop = asyncio.get_running_loop()
        said: list[str] = []
        over = asyncio.Event()

        async def inner() -> None:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                said.append("inner")
                raise

        waits: dict[str, Callable[[], Awaitable[object]]] = {
            "gate": lambda: Gate(loop),  # type: ignore[dict-item, return-value]
            "future": loop.create_future,
            "task": lambda: in_task(inner()),
            "sleep": lambda: asyncio.sleep(60),
        }

        async def work() -> None:
            try:
                await waits[kind]()
            except asyncio.CancelledError:
                said.append("outer")
                raise

        drive = Drive(work(), over.set)
        drive.start()
        await asyncio.sleep(0.01)
        drive.cancel()
        await over.wait()
        assert said == (["inner", "outer"] if kind == "task" else ["outer"])
        drive.cancel()  # over: nothing happens

    play(scene)


def test_cancelled_while_it_runs() -> None:
    """A coroutine that is cancelled by what it does itself hears of it where it waits next."""

    async def scene() -> None:
        said: list[str] = []

        async def work() -> None:
            drive.cancel()
            said.append("still here")
            await Gate(asyncio.get_running_loop())
            said.append("never")

        drive = Drive(work(), lambda: said.append("over"))
        drive.start()
        assert said == ["still here", "over"]

    play(scene)


def test_what_asyncio_offers_can_be_awaited() -> None:
    """Futures, sleeps, tasks with timeouts of their own and shielded ones work as in a task."""

    async def scene() -> None:
        said: list[object] = []
        over = asyncio.Event()

        async def number() -> int:
            async with asyncio.timeout(5):
                await asyncio.sleep(0.001)
            return 3

        async def fail() -> None:
            raise ValueError("no")

        async def work() -> None:
            await asyncio.sleep(0)
            said.append(await in_task(number()))
            said.append(await asyncio.shield(asyncio.get_running_loop().create_task(number())))
            try:
                await in_task(fail())
            except ValueError as error:
                said.append(str(error))

        Drive(work(), over.set).start()
        await over.wait()
        assert said == [3, 3, "no"]

    play(scene)


def test_an_error_comes_out_of_the_step_that_met_it() -> None:
    """What the coroutine does not catch is raised to whoever made it go on; it counts as over."""

    async def scene() -> None:
        over: list[bool] = []

        async def work() -> None:
            raise ValueError("a programmer's error")

        with pytest.raises(ValueError, match="programmer"):
            Drive(work(), lambda: over.append(True)).start()
        assert over

    play(scene)
