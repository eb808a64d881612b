"""Events that the serving path raises: bounded, rarely repeated, and never in the way."""

import asyncio
from typing import Any

from gateway.core.refs import VersionRef
from gateway.notices import MOST_WAITING, PROVE, Notice, Notices
from gateway.store.attestations import Attestations
from gateway.store.database import StoreUnavailable
from gateway.store.events import Events
from gateway.telemetry import Telemetry


class Shelf(Events):
    """Keeps events in a list; fails as often as it is told to."""

    def __init__(self, *, failures: int = 0) -> None:
        self.kept: list[tuple[str, str]] = []
        self._failures = failures

    def add(self, *, action: str, subject: str, **_: Any) -> None:
        if self._failures:
            self._failures -= 1
            raise StoreUnavailable("down")
        self.kept.append((action, subject))


class Wishes(Attestations):
    """Keeps wishes for proofs on the shelf of the events."""

    def __init__(self, shelf: Shelf) -> None:
        self._shelf = shelf

    def ask(self, ref: VersionRef, *, actor: str, why: str | None = None, **_: Any) -> int:
        self._shelf.add(action=f"{actor} wishes, {why}", subject=str(ref))
        return 1


def made(shelf: Shelf, telemetry: Telemetry | None = None) -> Notices:
    """Return notices that go to a shelf."""
    return Notices(shelf, Wishes(shelf), telemetry or Telemetry())


def test_the_same_event_is_raised_once_a_while() -> None:
    """Many wrong answers of one version make one event; other versions' and urgent ones are kept too."""
    shelf = Shelf()
    notices = made(shelf)
    for subject in ("a@1", "a@1", "b@1"):
        notices.raise_event(Notice("adapter.wrong_model", subject, "x"))
    for _ in range(2):
        notices.raise_event(Notice("replica.died", "e0", "x"), always=True)
    asyncio.run(notices.flush())
    wrong, died = "adapter.wrong_model", "replica.died"
    assert shelf.kept == [(wrong, "a@1"), (wrong, "b@1"), (died, "e0"), (died, "e0")]


def test_events_wait_for_the_store() -> None:
    """While the store is down events wait; when it is back they are written, in order."""
    shelf = Shelf(failures=1)
    telemetry = Telemetry()
    notices = made(shelf, telemetry)

    async def work() -> None:
        notices.raise_event(Notice("x", "1", ""))
        notices.raise_event(Notice("x", "2", ""))
        await notices.flush()
        assert shelf.kept == []
        task = asyncio.create_task(notices.run())
        while len(shelf.kept) < 2:  # noqa: ASYNC110 - written by a thread
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(work())
    assert shelf.kept == [("x", "1"), ("x", "2")]
    assert telemetry.registry.get_sample_value("turnout_store_errors_total", {"task": "notices"}) == 1


def test_a_version_that_was_registered_again_is_to_be_proved() -> None:
    """Each time, however often, and when the store is back; a label that is no version is an event alone."""
    shelf = Shelf(failures=1)
    notices = made(shelf)
    for replica in ("e0", "e0", "e1"):
        notices.prove(replica, "a@1")
    notices.raise_event(Notice(PROVE, "base", "x"))
    for _ in range(2):
        asyncio.run(notices.flush())
    again = "gateway wishes, registered again on"
    assert shelf.kept == [(f"{again} {replica}", "a@1") for replica in ("e0", "e0", "e1")] + [(PROVE, "base")]


def test_the_queue_is_bounded() -> None:
    """Events beyond the queue are dropped and counted."""
    telemetry = Telemetry()
    notices = made(Shelf(), telemetry)
    for i in range(MOST_WAITING + 3):
        notices.raise_event(Notice("x", str(i), ""))
    assert len(notices._queue) == MOST_WAITING
    assert telemetry.registry.get_sample_value("turnout_background_errors_total", {"task": "notices"}) == 3
