"""Runs of the loop on a real store, with steps that are processes."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.core.loop import LoopPolicy
from gateway.store.lease import LeaseLost
from tests.gateway.looping.world import World, alive, kill, wait_gone
from tests.gateway.loops import made

pytestmark = pytest.mark.slow
Make = Callable[..., World]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes a world with a policy, whose steps are ended with the test."""
    made: list[World] = []

    def world(**policy: Any) -> World:
        made.append(World(tmp_path, **policy))
        return made[-1]

    yield world
    for each in made:
        each.close()


def test_from_drift_to_promotion_without_a_person(make: Make) -> None:
    """A look that calls for it starts a run; its version passes the gate, takes a canary and is promoted."""
    world = make()
    looper = world.looper()
    world.look(looper)
    world.look(looper)
    assert world.runs == 0
    world.drift()
    run = world.until_state(looper, "canary")
    world.look(looper)
    assert (run.trigger, run.cause, run.champion, run.candidate) == (
        "drift",
        "drift",
        "support@1",
        "support@2",
    )
    assert run.drift_id == 1
    canary = world.route.spec.canary
    assert canary is not None
    assert canary.candidate == "support@2"
    world.settle(canary="running")
    world.look(looper)
    assert world.run.state == "canary"
    world.pass_(hours=3)
    world.settle(canary="promoted", reason="step 2 is passed")
    world.look(looper)
    assert (world.run.state, world.run.verdict) == ("promoted", "passed")
    assert [arm.adapter for arm in world.route.spec.arms] == ["support@2"]
    assert world.route.spec.canary is None
    assert world.steps() == ["curating ok", "training ok", "gating ok"]
    assert world.events() == [
        f"loop.{state}" for state in ("proposed", "curating", "training", "gating", "canary", "promoted")
    ]
    assert world.run.results["curate"]["fingerprint"] == "sha256:rows"


def test_steps_get_what_they_are_promised(tmp_path: Path, make: Make) -> None:
    """The commands are those of the contract, the policy lies beside, and no secret is in the environment."""
    world = make(method="kto")
    os.environ["TURNOUT_ADMIN_KEY"] = "secret"
    try:
        looper = world.looper()
        world.look(looper)
        world.drift()
        run = world.until_state(looper, "canary")
    finally:
        del os.environ["TURNOUT_ADMIN_KEY"]
    folder = tmp_path / "loop" / run.id
    lines = [line.split(" ", 4)[4] for line in (tmp_path / "steps.log").read_text().splitlines()]
    assert lines == [
        f"support --run {run.id} --out {folder} --policy {folder}/policy.json --state-dir {tmp_path}",
        f"--out {folder} --name support --method kto --from support@1",
        (
            f"--route support --candidate support@2 --champion support@1 --golden {folder}/golden.jsonl "
            f"--new {folder}/held_out_new.jsonl --old {folder}/held_out_old.jsonl "
            f"--policy {folder}/policy.json --out {folder}/gate.json --state-dir {tmp_path}"
        ),
    ]
    assert json.loads((folder / "policy.json").read_text())["method"] == "kto"
    assert json.loads((folder / "run.json").read_text())["drift_id"] == 1
    assert folder.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    ("plan", "policy", "state", "says"),
    [
        ({"training": ["die", "ok"]}, {"max_retries": 1}, "canary", "preparing"),
        ({"training": ["die"]}, {"max_retries": 1}, "failed", "exit code 1: the rows are strange (tried 2"),
        ({"curating": ["refuse"]}, {"max_retries": 5}, "failed", "exit code 2: the rows are strange"),
        ({"gating": ["nonsense"]}, {}, "failed", "can't be read"),
    ],
)
def test_what_becomes_of_a_step_that_fails(
    make: Make, plan: dict[str, Any], policy: dict[str, Any], state: str, says: str
) -> None:
    """It is tried again as often as the policy has it; what would fail again is not; the reason is told."""
    world = make(**policy)
    world.plan(**plan)
    looper = world.looper()
    world.look(looper)
    world.drift()

    def over() -> bool:
        world.pass_(seconds=30)  # the pause before another try
        return bool(world.runs) and world.run.state == state

    world.look_until(looper, over)
    assert says in str(world.run.reason)
    if state == "failed":
        world.drift()
        world.look(looper)
        assert world.runs == 1  # the cooldown
        world.pass_(hours=25)
        world.look(looper)
        assert world.runs == 2


def test_a_step_is_taken_over_from_a_controller_that_was_killed(tmp_path: Path, make: Make) -> None:
    """The next controller starts no second one, and takes the result of the one that works."""
    world = make()
    world.plan(training=["hang"])
    first = world.looper()
    world.look(first)
    world.drift()
    world.until_state(first, "training")
    world.look_until(first, lambda: world.has("child"))
    pid, child = world.process(), world.process("child")
    world.epoch = world.lease("second")
    second = world.looper()
    for _ in range(5):
        world.look(second)
    assert world.steps() == ["curating ok", "training hang"]
    world.plan()
    (tmp_path / "loop" / world.run.id / "train.json").write_text('{"version": "support@2"}')
    kill(pid)
    with pytest.raises(LeaseLost):
        world.look(first, epoch=world.epoch - 1)
    assert world.run.state == "training"
    assert world.until_state(second, "canary").candidate == "support@2"
    assert world.steps() == ["curating ok", "training hang", "gating ok"]
    wait_gone(child)  # what the killed one had started is ended before the next step begins


def test_a_step_that_is_killed_is_started_again(make: Make) -> None:
    """Killed with SIGKILL it counts as a try that failed; what it left running is ended before the next."""
    world = make(max_retries=2)
    world.plan(curating=["hang", "ok"])
    looper = world.looper()
    world.look(looper)
    world.drift()
    world.look_until(looper, lambda: bool(world.runs) and world.has("child"))
    child = world.process("child")
    kill(world.process())

    def over() -> bool:
        world.pass_(seconds=30)
        return world.run.state == "canary"

    world.look_until(looper, over)
    assert world.steps()[:2] == ["curating hang", "curating ok"]
    assert "loop.retry" in world.events()
    wait_gone(child)


@pytest.mark.parametrize("how", ["hang", "stubborn"])
def test_a_step_that_hangs_is_ended_at_its_deadline(
    make: Make, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With all that it started, whether it listens or not; a clock that is set ends nothing."""
    monkeypatch.setattr("gateway.controller.looping.processes.GRACE_S", 0.2)
    world = make(deadline_h={"training": 1})
    world.plan(training=[how])
    looper = world.looper()
    world.look(looper)
    world.drift()
    world.look_until(looper, lambda: bool(world.runs) and world.has("child"))
    pid, child = world.process(), world.process("child")
    world.wall += 1e7
    world.look(looper)
    assert alive(pid)
    assert world.run.state == "training"
    world.pass_(hours=1.1)
    run = world.until_state(looper, "failed")
    assert "training was ended after 1 h" in str(run.reason)
    wait_gone(pid)
    wait_gone(child)
    assert world.steps()[-1] == f"training {how}"


def test_what_is_missing_is_said_and_a_full_disk_is_waited_for(make: Make) -> None:
    """Without the extra a run fails with what to install; with too little room it waits and says so."""
    world = make()
    poor = world.looper(min_free=2**60)
    world.look(poor)
    world.drift()
    world.look(poor)
    world.look(poor)
    assert world.run.state == "curating"
    assert "GiB of the disk are free" in str(world.run.reason)
    assert world.steps() == []
    bare = world.looper(installed=False)
    run = world.until_state(bare, "failed")
    assert "pip install 'turnout[training]'" in str(run.reason)
    assert world.steps() == ["curating ok"]


def test_a_controller_that_stops_ends_its_steps_and_the_next_begins_them_again(make: Make) -> None:
    """An orderly stop leaves no process, and is no try that failed."""
    world = make(max_retries=0)
    world.plan(training=["hang", "ok"])
    looper = world.looper()
    world.look(looper)
    world.drift()
    world.look_until(looper, lambda: bool(world.runs) and world.has("child"))
    pid, child = world.process(), world.process("child")
    looper._processes.close()
    wait_gone(pid)
    wait_gone(child)
    world.look(looper)  # a look that was under way starts nothing more
    assert world.steps() == ["curating ok", "training hang"]
    run = world.until_state(world.looper(), "canary")
    assert (run.candidate, world.steps()[2]) == ("support@2", "training ok")


def test_a_controller_that_was_frozen_starts_nothing(make: Make) -> None:
    """Between its last check and the process the lease may end: the process then does not become the step."""
    world = make()
    frozen = world.looper(left_s=-1.0)
    world.look(frozen)
    world.drift()
    world.look_until(frozen, lambda: bool(world.runs) and world.run.starts > 0)
    assert world.steps() == []
    world.until_state(world.looper(), "canary")
    assert world.steps() == ["curating ok", "training ok", "gating ok"]


def test_a_run_that_is_rejected_ends_with_its_process(make: Make) -> None:
    """A person's no ends what works, and nothing of it meets traffic."""
    world = make()
    world.plan(training=["hang"])
    looper = world.looper()
    world.look(looper)
    world.drift()
    world.look_until(looper, lambda: bool(world.runs) and world.has("child"))
    pid = world.process()
    stop = {"by": "ada", "why": "wrong day"}
    assert world.house.store.loops.change(world.run, actor="ada", action="loop.reject", stop=stop)
    run = world.until_state(looper, "rejected")
    wait_gone(pid)
    assert run.reason == "rejected by ada: wrong day"
    assert world.route.spec.canary is None


def test_a_candidate_that_does_harm_is_sent_back_and_kept(make: Make) -> None:
    """A canary that is rolled back ends the run; the version stays registered, unrouted and retirable."""
    world = make()
    looper = world.looper()
    world.look(looper)
    world.drift()
    world.until_state(looper, "canary")
    world.look(looper)
    world.settle(canary="rolled_back", reason="errors is breached")
    world.look(looper)
    assert (world.run.state, world.run.reason) == ("rolled_back", "errors is breached")
    assert world.route.spec.canary is None
    assert [arm.adapter for arm in world.route.spec.arms] == ["support@1"]
    from gateway.core.refs import VersionRef

    assert world.house.store.versions.retire(VersionRef("support", 2), actor="test", unused_only=True)


def test_a_canary_of_somebody_takes_no_finding_away(make: Make) -> None:
    """What was found of the version that still answers most of the traffic begins a run after the canary."""
    world = make()
    looper = world.looper()
    world.look(looper)
    world.drift()
    world.pass_(hours=1)
    world.canary_steps(0.1)
    world.pass_(hours=1)
    world.canary_steps(0.0)
    world.pass_(hours=1)
    world.look(looper)
    assert world.run.drift_id == 1


def test_the_gate_is_told_the_best_version_that_is_there(make: Make) -> None:
    """A champion of before whose version was better, unless it is retired by now."""
    from gateway.core.refs import VersionRef

    world = make()
    systems = {"champion": {"value": 0.9}, "candidate": {"value": 0.85}}
    world.run_before(candidate="support@2", gate={"sets": {"old": {"systems": systems}}})
    world.put(LoopPolicy(cooldown_h=0), arm="support@2")
    gating = made.run(champion="support@2", state="gating")
    assert world.looper()._best(gating) == "support@1"
    world.house.store.versions.retire(VersionRef("support", 1), actor="test")
    assert world.looper()._best(gating) is None


def test_a_machine_without_the_folder_waits(tmp_path: Path, make: Make) -> None:
    """A run whose folder is on another machine is not begun twice: it is left to its deadline."""
    world = make()
    looper = world.looper()
    world.look(looper)
    world.drift()
    world.plan(curating=["hang"])
    world.look_until(looper, lambda: bool(world.runs) and world.has("child"))
    pid, child = world.process(), world.process("child")
    (tmp_path / "loop").rename(tmp_path / "elsewhere")
    other = world.looper()
    other._processes._place = type(other._processes._place)(tmp_path / "loop", host="b")
    world.look(other)
    assert "its folder is on" in str(world.run.reason)
    assert world.steps() == ["curating hang"]
    world.pass_(hours=3)
    world.look(other)
    assert world.run.state == "failed"
    kill(pid)
    kill(child)
