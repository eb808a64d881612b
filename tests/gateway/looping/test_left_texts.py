"""Runs that are given up leave no texts that are not masked."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.store.run_files import WORKBOOK
from tests.gateway.looping.world import World, wait_gone

pytestmark = pytest.mark.slow


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A world whose curation never ends by itself."""
    made = World(tmp_path)
    made.plan(curating=["hang"])
    yield made
    made.close()


@pytest.mark.parametrize("by_a_person", [True, False])
def test_a_run_that_is_given_up_while_it_curates_leaves_no_texts(world: World, by_a_person: bool) -> None:
    """Rejected, or over its deadline: what it had read for its rows goes, and what it had decided stays."""
    looper = world.looper()
    world.look(looper)
    world.drift()
    world.look_until(looper, lambda: bool(world.runs) and world.has("child"))
    pid = world.process()
    book = world.folder / "loop" / world.run.id / WORKBOOK
    book.parent.mkdir()
    for name in (book.name, f"{book.name}-wal", f"{book.name}-shm", "plan.json"):
        (book.parent / name).write_text("ann@example.org")
    if by_a_person:
        world.house.store.loops.change(world.run, actor="ada", action="loop.reject", stop={"by": "ada"})
    else:
        world.pass_(hours=1000)
    world.until_state(looper, "rejected", "failed")
    wait_gone(pid)
    assert [path.name for path in book.parent.iterdir()] == ["plan.json"]
