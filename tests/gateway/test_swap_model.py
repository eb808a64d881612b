"""The swap protocol against its invariants, in a world of workers, controllers and engines that fail at will.

No request is answered by a version that was not proved there, or by other weights; none meets an engine that
was told to forget its version; no blob goes that an engine may read; one controller is effective at a time;
a route never goes to a version that stands nowhere. The protocol must hold them, and each mutation of it must
be found: a model that finds nothing wrong with broken code proves nothing.
"""

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, FlakyStrategyDefinition
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from gateway.controller.drain import OldTables, RollCall, Since
from gateway.controller.lease import Lease
from gateway.core.refs import VersionRef
from gateway.routing import watcher
from gateway.routing.table import RoutingTable, build
from gateway.routing.watcher import TableWatcher
from gateway.store import holds
from gateway.store.control import Snapshot
from gateway.store.database import Database
from tests.gateway.swap_world import LEASE_S, World

NAMES = ("a", "b")
PICK = st.integers(0, 1_000)
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
FAST = settings(max_examples=5, stateful_step_count=30, deadline=None, suppress_health_check=CHECKS)
# The one search that goes another way in every run.
LONG = settings(FAST, max_examples=50, stateful_step_count=60, derandomize=False)
# A mutation only has to be found, not to be made small.
HUNT = settings(
    FAST, stateful_step_count=60, max_examples=400, phases=(Phase.generate,), database=None, derandomize=True
)


class SwapMachine(RuleBasedStateMachine):
    """The rules. Which worker, controller, engine or version a rule means is picked by number."""

    template: Path

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(tempfile.mkdtemp(prefix="swap-model-"))
        self.world = World(self._folder, self.template)

    def teardown(self) -> None:
        self.world.close()
        shutil.rmtree(self._folder)

    @initialize()
    def begin(self) -> None:
        """A route of each name, served."""
        for name in NAMES:
            self.world.add(name)
        for _ in range(2):
            self._turn()
        for worker in self.world.workers:
            self.world.run(worker.watcher.refresh())

    def _turn(self) -> None:
        for process in self.world.processes:
            self.world.turn(process)

    def _pick(self, many: Any, number: int) -> Any:
        return many[number % len(many)]

    def _versions(self) -> list[VersionRef]:
        return [row.ref for row in self.world.store.versions.rows() if row.retired_at is None]

    # --- people ---

    @rule(name=st.sampled_from(NAMES))
    def add_and_point(self, name: str) -> None:
        self.world.point(name, self.world.add(name))

    @rule(name=st.sampled_from(NAMES), number=PICK)
    def point(self, name: str, number: int) -> None:
        self.world.point(name, self._pick(self._versions(), number))

    @rule(number=PICK)
    def retire(self, number: int) -> None:
        self.world.retire(self._pick(self._versions(), number))

    @rule()
    def collect(self) -> None:
        self.world.collect()

    # --- clients and workers ---

    @rule(number=PICK, name=st.sampled_from(NAMES), wait=st.booleans())
    def ask_route(self, number: int, name: str, wait: bool) -> None:
        self.world.run(self._pick(self.world.workers, number).ask(name, wait=wait))

    @rule(number=PICK, version=PICK)
    def ask_version(self, number: int, version: int) -> None:
        label = str(self._pick(self._versions(), version))
        self.world.run(self._pick(self.world.workers, number).ask(label, wait=False))

    @precondition(lambda self: any(worker.asked for worker in self.world.workers))
    @rule(number=PICK)
    def go_on(self, number: int) -> None:
        """A request that waits is sent; one that was sent ends."""
        worker = self._pick([worker for worker in self.world.workers if worker.asked], number)
        asked = self._pick(worker.asked, number)
        if asked.place is None:
            self.world.run(worker.send(asked))
        else:
            worker.finish(asked)

    @rule(number=PICK)
    def poll(self, number: int) -> None:
        self.world.run(self._pick(self.world.workers, number).watcher.refresh())

    @rule()
    def beat(self) -> None:
        for worker in self.world.workers:
            self.world.run(worker.beat())

    @rule(number=PICK)
    def beat_one(self, number: int) -> None:
        self.world.run(self._pick(self.world.workers, number).beat())

    # --- controllers ---

    @rule()
    def everybody_works(self) -> None:
        """The usual: tables and beats are fresh, and the controllers take their turns."""
        for worker in self.world.workers:
            self.world.run(worker.watcher.refresh())
            self.world.run(worker.beat())
        self._turn()

    @rule()
    def turn(self) -> None:
        self._turn()

    @rule(number=PICK, after=st.integers(1, 12))
    def freeze(self, number: int, after: int) -> None:
        self.world.freeze(self._pick(self.world.processes, number), after)

    @rule(number=PICK)
    def thaw(self, number: int) -> None:
        self.world.thaw(self._pick(self.world.processes, number))

    @rule(number=PICK, worker=st.booleans())
    def process_dies(self, number: int, worker: bool) -> None:
        """A worker or a controller is killed, and another one starts."""
        if worker:
            self.world.workers.remove(self._pick(self.world.workers, number))
            self.world.start_worker()
        else:
            self.world.kill_controller(self._pick(self.world.processes, number))

    @rule(number=PICK, after=st.integers(1, 12), name=st.sampled_from(NAMES))
    def freeze_past_the_lease(self, number: int, after: int, name: str) -> None:
        """A controller stands still with work in hand, another takes over, and the first one wakes up."""
        process = self._pick(self.world.processes, number)
        self.world.point(name, self.world.add(name))
        self.world.freeze(process, after)
        self.world.now += LEASE_S + 1
        self.everybody_works()
        self.world.thaw(process)

    # --- engines and time ---

    @rule(number=PICK, kind=st.sampled_from(["restart", "restart", "stop", "by hand"]))
    def engine_fails(self, number: int, kind: str) -> None:
        """It starts anew, ends, or somebody unloads an adapter behind everybody's back."""
        machine = self._pick(list(self.world.machines.values()), number)
        if kind == "restart":
            machine.restart()
        elif kind == "stop":
            machine.up = False
        elif machine.up and machine.engine.adapters:
            label = self._pick(machine.engine.adapters, number)
            machine.engine._paths.pop(label)
            self.world.ghost.excused.add((machine.id, machine.engine.incarnation, label))

    @rule()
    def engines_come_back(self) -> None:
        for machine in self.world.machines.values():
            if not machine.up:
                machine.restart()

    @rule(seconds=st.sampled_from([0.3, 0.3, 0.3, 1.2, 1.2, 6.0, 30.0, 61.0, 4000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.now += seconds

    @invariant()
    def nothing_is_broken(self) -> None:
        assert not self.world.broken
        self.world.check_blobs()


@pytest.fixture(scope="module", autouse=True)
def _template(tmp_path_factory: pytest.TempPathFactory) -> None:
    """An empty store, made once: each run begins with a copy."""
    path = tmp_path_factory.mktemp("template") / "control.db"
    database = Database(f"sqlite:///{path}", "control", durable=False)
    database.migrate()
    database.close()  # the last connection moves the log into the file
    SwapMachine.template = path


@pytest.mark.slow
def test_the_protocol_holds() -> None:
    """A few runs, with the ordinary tests."""
    run_state_machine_as_test(SwapMachine, settings=FAST)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_protocol_holds_for_long() -> None:
    """Many runs, and longer ones.

    On a machine that is busy a timeout may run out that does not otherwise: the same steps then take another
    course, which says nothing of the protocol, and the search begins again.
    """
    for attempt in range(3):
        try:
            run_state_machine_as_test(SwapMachine, settings=LONG)
        except (Flaky, FlakyStrategyDefinition):
            if attempt == 2:
                raise
        else:
            break


def _heedless(roll: RollCall, name: str, _since: Since) -> bool:
    """Ask for requests in flight only, and not whether the workers have applied the table."""
    return not any(row.in_flight.get(name) for row, _ in roll._heard.values())


MUTATIONS = {
    "tables are not waited for": mock.patch.object(RollCall, "released", _heedless),
    "workers are not waited for": mock.patch.object(RollCall, "released", return_value=True),
    "the lease is not checked before calls": mock.patch.object(Lease, "check", return_value=None),
    "engines hold no blobs": mock.patch.object(holds, "_by_engine", return_value=None),
    "a worker that stood still reads nothing": mock.patch.object(TableWatcher, "overdue", return_value=None),
}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_broken_protocol_is_found(mutation: str) -> None:
    """Without one of its rules the protocol breaks an invariant, and the machine finds it."""
    with MUTATIONS[mutation], pytest.raises(AssertionError):
        run_state_machine_as_test(SwapMachine, settings=HUNT)


def _trusting(snapshot: Snapshot, **options: Any) -> RoutingTable:
    """Build the table as if what is registered were proved."""
    rows = (replace(row, state="attested") for row in snapshot.registrations if row.state == "registered")
    proved = (row for row in snapshot.registrations if row.state != "registered")
    return build(replace(snapshot, registrations=(*proved, *rows)), **options)


@pytest.mark.slow
@pytest.mark.parametrize("trusting", [False, True])
def test_nobody_meets_what_is_not_proved(tmp_path: Path, *, trusting: bool) -> None:
    """At whichever of an engine's answers the controller stands still; a table that trusts too much is found.

    The search above finds that too, but needs minutes for it.
    """
    world = World(tmp_path, SwapMachine.template)
    with ExitStack() as stack:
        stack.callback(world.close)
        if trusting:
            stack.enter_context(pytest.raises(AssertionError, match="is unproved"))
            stack.enter_context(mock.patch.object(watcher, "build", _trusting))
        for after in range(1, 13):
            ref = world.add("a")
            world.point("a", ref)
            world.freeze(world.processes[0], after)
            for worker in world.workers:
                world.run(worker.watcher.refresh())
                world.run(worker.ask(str(ref), wait=False))
                for asked in list(worker.asked):
                    worker.finish(asked)
            world.thaw(world.processes[0])
        assert world.store.fleet.registrations()
    assert not world.broken


@pytest.mark.slow
@pytest.mark.parametrize("hasty", [False, True])
def test_nobody_meets_what_is_not_proved_after_a_restart(tmp_path: Path, *, hasty: bool) -> None:
    """A worker whose table is from before asks at each moment at which the controller can stand."""
    met = False
    for after in range(1, 21):
        folder = tmp_path / str(after)
        folder.mkdir()
        world = World(folder, SwapMachine.template)
        with ExitStack() as stack:
            stack.callback(world.close)
            if hasty:
                stack.enter_context(mock.patch.object(OldTables, "gone", return_value=True))
            ref = world.add("a")
            for process in world.processes * 2:
                world.turn(process)
            for worker in world.workers:
                world.run(worker.watcher.refresh())
                world.run(worker.beat())
            world.machines["engine-1"].restart()
            world.freeze(world.processes[0], after)
            for worker in world.workers * 2:  # one for each engine
                try:
                    world.run(worker.ask(str(ref), wait=False))
                except AssertionError as error:
                    met = met or "is unproved" in str(error)
            world.thaw(world.processes[0])
            for _ in range(2):
                for worker in world.workers:
                    world.run(worker.watcher.refresh())
                    world.run(worker.beat())
                world.turn(world.processes[0])
            placed = world.workers[0].watcher.table.placement[str(ref)]
            assert len(placed) == len(world.machines)
        assert not world.broken
    assert met is hasty
