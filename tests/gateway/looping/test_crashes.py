"""Controllers that die between any two of their writes: the run comes to the same end, and nothing twice."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.controller.looper import Looper
from gateway.controller.looping.processes import Processes
from gateway.store.loop import Loops
from gateway.store.routes import Routes
from tests.gateway.looping.world import World

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """The process is gone: nothing of it runs any more."""


class Fate:
    """Kills at the n-th of the points that a controller passes: before and after each of its writes."""

    def __init__(self, at: int | None) -> None:
        self.at = at
        self.passed = 0

    def point(self) -> None:
        """Pass one point, or die there."""
        self.passed += 1
        if self.passed == self.at:
            raise Killed

    def wrap(self, real: Callable[..., Any]) -> Callable[..., Any]:
        """Put a point before a call and one behind it."""

        def call(*arguments: Any, **named: Any) -> Any:
            self.point()
            result = real(*arguments, **named)
            self.point()
            return result

        return call


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A route with a loop, and drift on it."""
    made = World(tmp_path, shadow={"share": 0.1, "hours": 1}, max_retries=0)
    made.look(made.looper())
    made.drift()
    yield made
    made.close()


def live(world: World, looper: Looper) -> None:
    """Bring the run to its end, with the experiments machinery doing its part."""

    def over() -> bool:
        if not world.runs:
            return False
        state, spec = world.run.state, world.route.spec
        if state == "shadowing" and spec.shadow is not None:
            world.settle()
            world.pass_(hours=1.5)
        if state == "canary" and spec.canary is not None and world.route.status.canary is None:
            world.settle(canary="promoted")
        return not world.run.open

    world.look_until(looper, over)


def points(monkeypatch: pytest.MonkeyPatch, at: int | None) -> Fate:
    """Put points around everything that a controller writes or starts."""
    fate = Fate(at)
    for owner, name in (
        (Loops, "begin"),
        (Loops, "change"),
        (Routes, "put"),
        (Processes, "_launched"),
    ):
        monkeypatch.setattr(owner, name, fate.wrap(getattr(owner, name)))
    return fate


# A whole life passes about forty points; each case dies at one, and its successor at one a little later.
@pytest.mark.parametrize("first", range(1, 38, 5))
def test_a_controller_that_dies_anywhere_is_followed(
    world: World, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Two controllers die, the third brings the version to its promotion: each step has worked once."""
    with monkeypatch.context() as patched:
        fate = points(patched, first)
        for more in (5, None):
            try:
                live(world, world.looper())
                break
            except Killed:
                fate.at = None if more is None else fate.passed + more
                world.epoch = world.lease("next")
        else:
            live(world, world.looper())
        assert fate.passed > first
    assert world.run.state == "promoted"
    assert [arm.adapter for arm in world.route.spec.arms] == ["support@2"]
    assert (world.route.spec.canary, world.route.spec.shadow) == (None, None)
    assert Counter(world.steps()) == {"curating ok": 1, "training ok": 1, "gating ok": 1}
    assert world.runs == 1
