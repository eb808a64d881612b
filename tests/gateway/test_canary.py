"""Canaries run by the controller: rolled back, promoted or held by what is recorded, whoever is killed."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.controller.clock import Clock
from gateway.controller.loop import Controller
from gateway.core import steps
from gateway.core.canary import Canary
from gateway.core.documents import Arm
from gateway.core.routes import Metric, RouteSpec
from gateway.core.steps import Moment
from gateway.store import schema
from gateway.store.database import StoreUnavailable
from gateway.store.fleet import CONTROLLER
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.gateway.controller_house import House
from tests.gateway.people import People

pytestmark = pytest.mark.slow

AT_ONCE = 1e-9
"""A window, in hours, that is over before anything else happens."""

STABLE, CANDIDATE = "support@1", "support@2"


class Site:
    """A house whose route `support` has a canary, and the people who ask it."""

    def __init__(self, house: House, engine: FakeEngine) -> None:
        self.house = house
        self.engine = engine
        self.people = People(house.store, house.requests)

    def begin(self, *, sticky: str = "none", **terms: Any) -> None:
        """Add both versions and have the canary take its first step."""
        self.house.add("support", seed=1)
        self.house.add("support", seed=2)
        canary = Canary.model_validate(
            {
                "candidate": CANDIDATE,
                "steps": (0.3, 0.6, 1.0),
                "min_units": 20,
                "guardrails": {"errors": 0.1},
                **terms,
            }
        )
        spec = RouteSpec(
            arms=(Arm(adapter=STABLE, share=1.0),),
            sticky=sticky,  # type: ignore[arg-type]
            canary=canary,
            metrics={"thumbs": Metric(window_h=AT_ONCE, primary=True)},
        )
        self.house.store.routes.put("support", spec, actor="test")
        self.house.turns()
        assert self.shares() == {STABLE: 0.7, CANDIDATE: 0.3}

    def shares(self) -> dict[str, float]:
        """What traffic meets now."""
        arms = self.house.route("support").status.effective_arms
        return {arm.adapter: round(arm.share, 9) for arm in arms}

    def state(self) -> tuple[str, int]:
        """The canary's state and step."""
        canary = self.house.route("support").status.canary
        assert canary is not None
        return canary.state, canary.step

    def ask(self, count: int, **how: Any) -> list[str]:
        """Have people ask; return the arms that they met."""
        return self.people.ask("support", count, **how)

    def look(self, times: int = 1, **options: Any) -> None:
        """Have a new controller take turns and look at its experiments after each."""

        async def work() -> None:
            async with httpx.AsyncClient() as http:
                controller = self.house.controller(http, **options)
                for _ in range(times):
                    await turn(controller)

        asyncio.run(work())


async def turn(controller: Controller) -> None:
    """Take a turn, and wait for the look that it began."""
    await controller.turn()
    assert controller.upkeep.experimenter is not None
    if controller.upkeep.experimenter._looking is not None:
        await asyncio.wait((controller.upkeep.experimenter._looking,))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site with one engine."""
    with fake_engine.start() as engine:
        house = House(tmp_path, engine)
        with house.requests_db.write() as connection:
            schema.requests.create_all(connection)
        yield Site(house, engine)
        house.database.close()
        house.requests_db.close()


def test_a_candidate_that_fails_is_rolled_back(site: Site) -> None:
    """Nobody does anything; the stable arm has all traffic again, and the log says what was breached."""
    site.begin()
    met = site.ask(300, fails={CANDIDATE: 0.5})
    site.look()
    assert (site.state(), site.shares()) == (("rolled_back", 1), {STABLE: 1.0})
    assert 0.2 < met.count(CANDIDATE) / len(met) < 0.4
    event = site.house.store.events.rows("support", limit=1)[0]
    assert (event.action, event.actor) == ("route.flip", "controller")
    assert (event.why or "").startswith("errors is breached: the difference to the stable arm is between 0.")
    figures = event.after["canary"]["figures"]["guardrails"]["errors"]
    assert figures["low"] > figures["limit"] == 0.1
    assert figures["candidate_units"] == met.count(CANDIDATE)


def test_a_candidate_that_is_disliked_is_rolled_back(site: Site) -> None:
    """Ratings alone are enough, when they are a guardrail."""
    site.begin(guardrails={"thumbs": 0.1})
    site.ask(400, liked={STABLE: 0.9, CANDIDATE: 0.2})
    site.look()
    assert site.state() == ("rolled_back", 1)
    canary = site.house.route("support").status.canary
    assert canary is not None
    assert (canary.reason or "").startswith("thumbs is breached")


def test_a_candidate_that_always_fails_is_stopped_at_once(site: Site) -> None:
    """A few failures in a row end it, long before any interval could say so."""
    site.begin(failures_in_a_row=3)
    while site.ask(1, fails={CANDIDATE: 1.0}) != [CANDIDATE] or len(_theirs(site)) < 3:
        pass
    site.look()
    assert site.state() == ("rolled_back", 1)
    assert len(_theirs(site)) == 3


def _theirs(site: Site) -> list[Any]:
    rows = site.house.requests.answers("support", since=0.0, from_generation=0)
    return [row for row in rows if row.arm == CANDIDATE]


def test_a_good_candidate_is_promoted(site: Site) -> None:
    """Step by step, each with units of its own; at the end it has all traffic, and the spec is as it was."""
    site.begin(guardrails={"errors": 0.1, "thumbs": 0.2})
    seen = []
    for _ in range(2):
        site.ask(300, liked={STABLE: 0.9, CANDIDATE: 0.9})
        site.look()
        seen.append((site.state(), site.shares()))
    assert seen == [
        (("running", 2), {STABLE: 0.4, CANDIDATE: 0.6}),
        (("promoted", 2), {CANDIDATE: 1.0}),
    ]
    route = site.house.route("support")
    assert route.spec.arms == (Arm(adapter=STABLE, share=1.0),)
    site.look()
    put, changed = site.house.store.routes.put("support", route.spec, actor="test")
    assert (changed, put.status) == (False, route.status)
    assert [row.arms for row in site.house.store.epochs.rows("support")] == [
        {STABLE: 0.7, CANDIDATE: 0.3},
        {STABLE: 0.4, CANDIDATE: 0.6},
        {CANDIDATE: 1.0},
    ]


@pytest.mark.slow
def test_a_step_needs_units_of_its_own(site: Site) -> None:
    """However many units the first step had, the second begins to count anew."""
    site.begin()
    site.ask(300)
    site.look(times=3)
    assert site.state() == ("running", 2)
    site.ask(20)
    site.look()
    assert site.state() == ("running", 2)
    site.ask(80)
    site.look()
    assert site.state() == ("promoted", 2)


@pytest.mark.slow
def test_subjects_that_come_back_are_units_of_each_step(site: Site) -> None:
    """Fifty subjects who ask every day take a canary through its steps, each in one arm a step."""
    site.begin(sticky="subject", min_units=5)
    house = site.house
    route = house.route("support")
    spec = route.spec.model_copy(update={"slo": route.spec.slo.model_copy(update={"window_s": 0})})
    house.store.routes.put("support", spec, actor="test")
    house.turns()
    assert site.state() == ("running", 1)
    for _ in range(2):
        site.ask(100, subject=lambda number: f"user {number % 50}")
        site.look()
    assert site.state() == ("promoted", 2)
    finding = house.store.findings.get("support")
    assert finding is not None
    assert [sum(epoch["units"].values()) for epoch in finding.figures["epochs"]] == [50, 50]


@pytest.mark.slow
def test_not_being_able_to_tell_holds(site: Site) -> None:
    """Past the deadline a step without enough units waits for a person; resumed, it may go on."""
    site.begin()
    site.ask(10)
    later = Clock(wall=lambda: time.time() + 25 * 3600)
    site.look(clock=later)
    assert (site.state(), site.shares()) == (("held", 1), {STABLE: 0.7, CANDIDATE: 0.3})
    assert site.house.store.events.rows("support", limit=1)[0].action == "route.canary"
    site.ask(300)
    site.look(clock=later)
    assert site.state() == ("held", 1)
    route = site.house.route("support")
    resumed = steps.resumed(route, Moment(time.time(), 0))
    site.house.store.routes.set_status("support", resumed, generation=route.generation, actor="ann")
    site.look(clock=later)
    assert site.state() == ("running", 2)


class Killed(BaseException):
    """Stands for kill -9: nothing of the process runs any more."""


@pytest.mark.slow
@pytest.mark.parametrize("fails", [0.0, 1.0])
def test_a_controller_that_is_killed_anywhere_loses_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, fails: float
) -> None:
    """Killed before or after each write of a look, it is followed by one that comes to the same end.

    Every step is taken once: its epoch is there exactly when its status is.
    """
    site.begin(steps=(0.3, 0.6), guardrails={"errors": 0.1})
    routes, findings = site.house.store.routes, site.house.store.findings
    killings = 0

    def deadly(write: Callable[..., Any], *, after: bool) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal killings
            killings += 1
            done = write(*args, **kwargs) if after else None
            raise Killed(str(done))

        return run

    for _ in range(2):
        site.ask(300, fails={CANDIDATE: fails})
        for target, name in ((findings, "put"), (routes, "set_status")):
            for after in (False, True):
                with monkeypatch.context() as patch:
                    patch.setattr(target, name, deadly(getattr(target, name), after=after))
                    with contextlib.suppress(Killed):
                        site.look()
                    site.house.store.fleet.release(CONTROLLER, "one")
    site.look()
    assert killings >= 4
    epochs = [dict(row.arms) for row in site.house.store.epochs.rows("support")]
    first, second = {STABLE: 0.7, CANDIDATE: 0.3}, {STABLE: 0.4, CANDIDATE: 0.6}
    if fails:
        assert (site.state(), epochs) == (("rolled_back", 1), [first, {STABLE: 1.0}])
    else:
        assert (site.state(), epochs) == (("promoted", 2), [first, second, {CANDIDATE: 1.0}])


def test_a_controller_without_the_lease_moves_nothing(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that lost it while it was looking stores no finding and takes no step."""
    site.begin()
    site.ask(300, fails={CANDIDATE: 1.0})
    # A turn of `begin` may have been slow enough for a look.
    before = site.house.store.findings.get("support")
    count = site.house.requests.count

    def slow_count(*args: Any, **kwargs: Any) -> int:
        site.house.store.fleet.release(CONTROLLER, "one")
        assert site.house.store.fleet.acquire(CONTROLLER, "two", ttl_s=30) is not None
        return count(*args, **kwargs)

    monkeypatch.setattr(site.house.requests, "count", slow_count)
    site.look()
    assert site.state() == ("running", 1)
    assert site.house.store.findings.get("support") == before


def test_a_person_is_quicker(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A canary that was aborted while it was being looked at stays aborted."""
    site.begin()
    site.ask(300)
    count, house = site.house.requests.count, site.house

    def slow_count(*args: Any, **kwargs: Any) -> int:
        route = house.route("support")
        aborted = steps.aborted(route)
        house.store.routes.set_status("support", aborted, generation=route.generation, actor="ann")
        return count(*args, **kwargs)

    monkeypatch.setattr(house.requests, "count", slow_count)
    site.look()
    assert (site.state(), site.shares()) == (("aborted", 1), {STABLE: 1.0})


@pytest.mark.slow
def test_without_the_requests_nothing_is_decided(site: Site) -> None:
    """While their store is away the canary stays as it is; the controller does its other work, and counts."""
    site.begin()
    site.ask(300, fails={CANDIDATE: 1.0})
    site.house.requests_db.down = True

    async def work() -> None:
        now = 0.0
        async with httpx.AsyncClient() as http:
            controller = site.house.controller(http, clock=Clock(monotonic=lambda: now))
            await turn(controller)
            assert controller.upkeep.experimenter is not None
            assert controller.upkeep.experimenter.failed_looks == 1
            assert site.state() == ("running", 1)
            site.house.requests_db.down = False
            now += 1.0
            await turn(controller)
            assert site.state() == ("running", 1)  # it rests a while after a failure
            now += 10.0
            await turn(controller)

    asyncio.run(work())
    assert site.state() == ("rolled_back", 1)


def test_arms_without_a_canary_are_looked_at_as_well(site: Site) -> None:
    """Plain arms have a finding with a verdict, in which nothing is moved."""
    house = site.house
    house.add("support", seed=1)
    house.add("support", seed=2)
    house.put("support", STABLE, CANDIDATE)
    house.turns()
    site.ask(400)
    site.look()
    finding = house.store.findings.get("support")
    assert finding is not None
    assert finding.figures["candidates"][CANDIDATE]["verdict"]["finding"] == "unknown"
    assert sum(arm["units"] for arm in finding.figures["arms"].values()) == 400
    assert finding.figures["canary"] is None
    assert site.shares() == {STABLE: 0.5, CANDIDATE: 0.5}


@pytest.mark.slow
def test_a_store_that_is_away_is_the_loops_matter(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A finding that can't be stored is tried again later, and nothing is decided without it."""
    site.begin()
    site.ask(300, fails={CANDIDATE: 1.0})

    def away(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(site.house.store.findings, "put", away)
        site.look()
    assert site.state() == ("running", 1)
    site.look()
    assert site.state() == ("rolled_back", 1)
