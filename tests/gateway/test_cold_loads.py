"""Versions that stand nowhere: loaded once when asked for, in bounded time, and nobody waits for ever."""

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.controller.planner import PlannerConfig
from gateway.core.refs import VersionRef
from gateway.errors import Overloaded, Unavailable
from gateway.replicas.cold import ColdLoads
from gateway.replicas.pool import Pool
from gateway.store.control import ControlStore
from gateway.store.database import Database, StoreUnavailable
from gateway.store.fleet import CONTROLLER
from gateway.telemetry import Telemetry
from gateway.upstream.origin import Origin
from tests import fake_engine
from tests.fake_engine import FakeEngine
from tests.gateway.controller_house import House, until
from tests.gateway.harness import Gateway, running, settings_for, wait_until

LOAD = "/v1/load_lora_adapter"
CHAT = "/v1/chat/completions"
ORIGINS = {"r0": Origin.parse("http://127.0.0.1:1")}
ERROR = Unavailable("nobody", code="no_replica")


# --- the worker's side ---------------------------------------------------------------------------------


class Rig:
    """A pool that knows the base alone, and a store without a controller."""

    def __init__(self, store: ControlStore, *, timeout_s: float = 5.0, max_waiting: int = 8) -> None:
        self.store = store
        self.hurried: list[int] = []
        self.telemetry = Telemetry()
        self.pool = Pool(limit_per_replica=4, max_queue=4, queue_timeout_s=1)
        self.serve()
        self.cold = ColdLoads(
            store.placement,
            self.pool,
            self.telemetry,
            hurry=self.hurried.append,
            timeout_s=timeout_s,
            max_waiting=max_waiting,
        )

    def serve(self, *labels: str) -> None:
        """Have these versions served."""
        self.pool.update(ORIGINS, dict.fromkeys(("base", *labels), ("r0",)))

    def outcomes(self) -> dict[str, float]:
        """What the counter of cold loads says."""
        samples = next(iter(self.telemetry.cold_loads.collect())).samples
        return {s.labels["outcome"]: s.value for s in samples if s.name.endswith("_total")}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ControlStore]:
    """A control store."""
    database = Database(f"sqlite:///{tmp_path}/control.db", "control", durable=False)
    database.migrate()
    yield ControlStore(database)
    database.close()


def test_many_requests_are_one_ask(store: ControlStore) -> None:
    """Twenty requests for two versions are two asks in the store, and all go on when they are served."""

    async def work() -> None:
        rig = Rig(store, max_waiting=20)
        labels = ["a@1", "b@1"] * 10
        tasks = [asyncio.create_task(rig.cold.bring(label, ERROR)) for label in labels]
        await until(lambda: len(store.placement.asked()) == 2, what="both are asked for")
        assert rig.cold.waiting == 20
        rig.serve("a@1", "b@1")
        assert all(waited > 0 for waited in await asyncio.gather(*tasks))
        await until(lambda: rig.hurried == [1, 1, -1, -1], what="the table is polled as usual again")
        assert rig.outcomes() == {"loaded": 2.0}
        assert rig.cold.waiting == 0

    asyncio.run(work())


def test_waiting_ends_in_time(store: ControlStore) -> None:
    """Without a controller a request is told to come again; nothing goes on behind it."""

    async def work() -> None:
        rig = Rig(store, timeout_s=0.05)
        with pytest.raises(Unavailable) as caught:
            await rig.cold.bring("a@1", ERROR)
        assert (caught.value.code, caught.value.retry_after_s) == ("cold_load_timeout", 2.0)
        await until(lambda: rig.hurried == [1, -1], what="the attempt has ended")
        assert rig.outcomes() == {"timeout": 1.0}

    asyncio.run(work())


def test_a_version_that_can_not_be_had_is_said_at_once(store: ControlStore) -> None:
    """The controller's reason reaches everybody who waits."""
    epoch = store.fleet.acquire(CONTROLLER, "test", ttl_s=60)
    assert epoch is not None

    async def work() -> None:
        rig = Rig(store, timeout_s=20)
        tasks = [asyncio.create_task(rig.cold.bring("a@1", ERROR)) for _ in range(3)]
        await until(lambda: bool(store.placement.asked()), what="it is asked for")
        store.placement.refuse(VersionRef("a", 1), "it answers like the base model", epoch=epoch)
        said = await asyncio.gather(*tasks, return_exceptions=True)
        assert {getattr(error, "code", None) for error in said} == {"adapter_failed"}
        assert "it answers like the base model" in str(said[0])

    asyncio.run(work())


def test_too_many_do_not_wait(store: ControlStore) -> None:
    """Requests that wait are bounded, over all versions."""

    async def work() -> None:
        rig = Rig(store, max_waiting=2)
        tasks = [asyncio.create_task(rig.cold.bring(label, ERROR)) for label in ("a@1", "b@1")]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded):
            await rig.cold.bring("c@1", ERROR)
        rig.serve("a@1", "b@1")
        await asyncio.gather(*tasks)

    asyncio.run(work())


def test_without_an_engine_nobody_waits(store: ControlStore) -> None:
    """While no replica is healthy a request hears so at once."""

    async def work() -> None:
        rig = Rig(store)
        rig.pool.update({}, {"base": ()})
        with pytest.raises(Unavailable) as caught:
            await rig.cold.bring("a@1", ERROR)
        assert caught.value is ERROR

    asyncio.run(work())


def test_clients_that_leave_take_the_ask_with_them(store: ControlStore) -> None:
    """When the last one who waits goes, the attempt ends; the ask in the store runs out by itself."""

    async def work() -> None:
        rig = Rig(store)
        task = asyncio.create_task(rig.cold.bring("a@1", ERROR))
        await until(lambda: bool(store.placement.asked()), what="it is asked for")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: rig.hurried == [1, -1], what="the attempt has ended")
        assert store.placement.asked()[0].until < time.time() + 6
        rig.serve("a@1")
        await rig.cold.bring("a@1", ERROR)

    asyncio.run(work())


def test_a_store_that_blinks_is_asked_again(store: ControlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ask that fails is counted and repeated while somebody waits."""
    ask, failures = store.placement.ask, [1]

    def unsteady(ref: VersionRef, *, stands_s: float) -> Any:
        if failures:
            failures.pop()
            raise StoreUnavailable("switched off")
        return ask(ref, stands_s=stands_s)

    monkeypatch.setattr(store.placement, "ask", unsteady)

    async def work() -> None:
        rig = Rig(store)
        task = asyncio.create_task(rig.cold.bring("a@1", ERROR))
        await until(lambda: bool(store.placement.asked()), what="it is asked for after all")
        rig.serve("a@1")
        await task

    asyncio.run(work())


# --- worker, controller and engines together -----------------------------------------------------------


class Town:
    """A gateway and a controller over fake engines of two slots each."""

    def __init__(self, house: House, gateway: Gateway, engines: list[FakeEngine]) -> None:
        self.house = house
        self.gateway = gateway
        self.engines = engines
        self.http = httpx.Client(base_url=gateway.url, timeout=60)

    def ask(self, model: str) -> httpx.Response:
        """Send one request."""
        messages = [{"role": "user", "content": "hello"}]
        return self.http.post(CHAT, json={"model": model, "messages": messages})

    def loads(self) -> Counter[str]:
        """How often each version was loaded, over all engines."""
        return Counter(str(load.json["lora_name"]) for engine in self.engines for load in engine.posts(LOAD))

    def served(self) -> set[str]:
        """The versions that requests may be sent to."""
        return set(self.gateway.app.state.gateway.watcher.table.placement) - {"base"}

    def attested(self) -> set[str]:
        """The versions that stand somewhere."""
        return {str(row.ref) for row in self.house.rows() if row.state == "attested"}


@contextmanager
def town(tmp_path: Path, names: str, *, engines: int = 1, **planner: Any) -> Iterator[Town]:
    """Run one with an adapter for each letter of `names`."""
    stop, loops = asyncio.Event(), []

    async def control(house: House) -> None:
        loops.append(asyncio.get_running_loop())
        async with httpx.AsyncClient() as http:
            controller = house.controller(http, slots=2, interval_s=0.1)
            controller._config = replace(controller._config, planner=PlannerConfig(**planner))
            controller._placer = controller._new_placer()
            await controller.run(stop)

    with contextmanager(_engines)(engines) as made:
        house = House(tmp_path, *made)
        for seed, name in enumerate(names, 1):
            house.add(name, seed=seed)
        thread = threading.Thread(target=lambda: asyncio.run(control(house)))
        thread.start()
        try:
            wait_until(lambda: sum(row.state == "attested" for row in house.rows()) >= 2 * engines, 60)
            routes = house.store.routes.rows
            wait_until(lambda: all(route.status.state == "active" for route in routes()), 60)
            settings = settings_for(tmp_path, placement={"cold_load_timeout_s": 50.0})
            with running(settings) as gateway:
                gateway.settle()
                built = Town(house, gateway, made)
                try:
                    yield built
                finally:
                    built.http.close()
        finally:
            loops[0].call_soon_threadsafe(stop.set)
            thread.join(20)
            house.database.close()


def _engines(count: int) -> Iterator[list[FakeEngine]]:
    def start(left: int, made: list[FakeEngine]) -> Iterator[list[FakeEngine]]:
        if not left:
            yield made
            return
        with fake_engine.start(max_cpu_loras=2) as engine:
            yield from start(left - 1, [*made, engine])

    yield from start(count, [])


@pytest.mark.slow
def test_more_adapters_than_slots_are_all_served(tmp_path: Path) -> None:
    """Five adapters on one engine of two slots: each answers as itself, and never more than two stand."""
    with town(tmp_path, "abcde", stay_s=0.1) as built:
        for _ in range(2):
            for name in "abcde":
                answer = built.ask(name)
                assert answer.status_code == 200, answer.text
                assert answer.headers["x-turnout-adapter"] == f"{name}@1"
                assert len(built.served()) <= 2
        counts = built.house.store.placement.counts()
        assert sum(count.cold_loads for count in counts.values()) >= 8
        assert sum(count.evictions for count in counts.values()) >= 6


@pytest.mark.slow
def test_one_cold_load_for_many_requests(tmp_path: Path) -> None:
    """Thirty requests at once for a version that stands nowhere load it once, and all are answered by it."""
    with town(tmp_path, "abc") as built:
        missing = next(label for label in ("a@1", "b@1", "c@1") if label not in built.attested())
        before = built.loads()  # it was loaded for its route, and then made room
        with ThreadPoolExecutor(30) as threads:
            answers = list(threads.map(lambda _: built.ask(missing), range(30)))
        assert {answer.status_code for answer in answers} == {200}
        assert {answer.headers["x-turnout-adapter"] for answer in answers} == {missing}
        assert built.loads() - before == {missing: 1}


@pytest.mark.slow
def test_nobody_waits_for_ever_behind_busy_ones(tmp_path: Path) -> None:
    """Two adapters that always have requests in flight hold both slots; a third is served all the same."""
    with town(tmp_path, "abc", patience_s=0.5, stay_s=0.1) as built:
        missing = next(label for label in ("a@1", "b@1", "c@1") if label not in built.attested())
        busy = [name for name in "abc" if f"{name}@1" != missing]
        built.engines[0].knobs.start_delay_s = 0.3
        over = threading.Event()
        failed: list[str] = []

        def keep_asking(name: str) -> None:
            while not over.is_set():
                answer = built.ask(name)
                if answer.status_code != 200:
                    failed.append(answer.text)

        with ThreadPoolExecutor(8) as threads:
            for name in busy * 4:
                threads.submit(keep_asking, name)
            time.sleep(1.5)
            answers = [built.ask(missing) for _ in range(3)]
            over.set()
        assert {answer.status_code for answer in answers} == {200}
        assert failed == []


@pytest.mark.slow
def test_a_broken_adapter_is_refused_with_its_reason(tmp_path: Path) -> None:
    """A version that fails its attestation on demand is 503 with the reason, before the time is over."""
    with town(tmp_path, "abc") as built:
        missing = next(label for label in ("a@1", "b@1", "c@1") if label not in built.attested())
        built.engines[0].knobs.unapplied = {missing}
        answer = built.ask(missing)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "adapter_failed")
        assert "answers like the base" in answer.json()["error"]["message"]


@pytest.mark.slow
def test_traffic_goes_home(tmp_path: Path) -> None:
    """With everything on both engines, all requests of an adapter go to one of them, and each has some."""
    with town(tmp_path, "ab", engines=2) as built:
        built.gateway.settle()
        for _ in range(10):
            for name in "ab":
                assert built.ask(name).status_code == 200
        asked = [Counter(post.json["model"] for post in engine.posts(CHAT)) for engine in built.engines]
        assert sorted(map(dict, asked), key=str) == [{"a@1": 10}, {"b@1": 10}]


@pytest.mark.slow
def test_a_dead_home_costs_no_cold_load(tmp_path: Path) -> None:
    """When an adapter's home dies, its standby answers at once."""
    with town(tmp_path, "ab", engines=2) as built:
        built.gateway.settle()
        before = built.loads()
        built.engines[0].die()
        # Until the gateway has heard of it, a request may be one that the engine died under.
        idle = built.gateway.app.state.gateway.client._idle
        wait_until(lambda: built.engines[0].dead)
        wait_until(
            lambda: all(
                kept.closed
                for key in list(idle)
                if str(built.engines[0].port) in key
                for kept in idle.get(key, ())
            )
        )
        answers = [built.ask(name) for name in "abab"]
        assert {answer.status_code for answer in answers} == {200}
        assert built.loads() == before
