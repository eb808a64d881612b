"""The metrics of several workers as one: what adds up, what follows a rule, and what is never lost."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.app import create_app
from gateway.core.requests import RequestRow
from gateway.exposition import Family, dump, families_of, load, merge, render
from gateway.gauge_rules import GAUGE_RULES
from gateway.peers import Peers, ask_ready, clear, folder_in
from gateway.settings import Settings
from gateway.telemetry import MAX_ADAPTERS, MAX_PAIRS, OTHER, Telemetry


def sample(text: bytes, name: str, **labels: str) -> float | None:
    """One value of an exposition."""
    for family in text_string_to_metric_families(text.decode()):
        for found in family.samples:
            if found.name == name and found.labels == labels:
                return found.value
    return None


def worker(*, errors: int = 0, queued: int = 0, generation: int = 0) -> Telemetry:
    """A worker's metrics."""
    telemetry = Telemetry()
    telemetry.errors.labels("x").inc(errors)
    telemetry.queue_wait.observe(0.2)
    telemetry.queued.set(queued)
    telemetry.table_generation.set(generation)
    return telemetry


def test_counters_add_up_and_gauges_follow_their_rules() -> None:
    """Counters and histograms are sums; queues are sums; the table's generation is the oldest one's."""
    two = [worker(errors=1, queued=2, generation=7), worker(errors=3, queued=4, generation=6)]
    text = render(merge([load(dump(each.families())) for each in two], GAUGE_RULES))
    assert sample(text, "turnout_errors_total", code="x") == 4
    assert sample(text, "turnout_queue_wait_seconds_count") == 2
    assert sample(text, "turnout_queue_wait_seconds_bucket", le="0.1") == 0
    assert sample(text, "turnout_queue_wait_seconds_bucket", le="0.25") == 2
    assert sample(text, "turnout_queued_requests") == 6
    assert sample(text, "turnout_table_generation") == 6


def test_series_that_only_one_worker_has_are_kept() -> None:
    """A label that one worker alone has seen appears with that worker's value."""
    first, second = Telemetry(), Telemetry()
    first.errors.labels("a").inc()
    second.errors.labels("b").inc(2)
    text = render(merge([first.families(), second.families()], GAUGE_RULES))
    assert [sample(text, "turnout_errors_total", code=code) for code in "ab"] == [1, 2]
    assert b"_created" not in text


def test_what_the_scraped_worker_has_read_counts() -> None:
    """Drift verdicts are the scraped worker's; what another one read some time ago is not mixed in."""
    now, stale = Family("d", "", "gauge", {("d", ()): 0.0}), Family("d", "", "gauge", {("d", ()): 1.0})
    assert merge([[now], [stale]], {"d": "first"})[0].samples == {("d", ()): 0.0}


def test_every_gauge_has_a_rule(tmp_path: Path) -> None:
    """No gauge is merged by accident, whoever registers it, and no rule is for a gauge that is gone."""
    app = create_app(Settings(state_dir=tmp_path))
    families = app.state.gateway.telemetry.families()
    assert {family.name for family in families if family.kind == "gauge"} == GAUGE_RULES.keys()


@pytest.mark.parametrize(
    "data", [b"", b"3", b"[1]", b'[["a","b","c",[["d"]]]]', b'[["a","b","c",[["d",[],"x"]]]]']
)
def test_what_is_no_dump(data: bytes) -> None:
    """Anything but a dump is refused with a ValueError."""
    with pytest.raises(ValueError, match="no metrics"):
        load(data)


def test_labels_are_bounded() -> None:
    """Beyond the bound, pairs of route and version and versions alone share one series."""
    telemetry = Telemetry()
    telemetry.watch_in_flight(lambda: {f"a@{i}": 1 for i in range(MAX_ADAPTERS + 5)})
    for i in range(MAX_PAIRS + 5):
        telemetry.finished(RequestRow("r", 0.0, "chat", route=f"r{i}", adapter=f"a@{i}", status=200))
    requests = next(f for f in families_of(telemetry.registry) if f.name == "turnout_requests")
    assert len(requests.samples) == MAX_PAIRS + 1
    labels = {"route": OTHER, "adapter": OTHER, "endpoint": "chat", "status": "200"}
    assert requests.samples[("turnout_requests_total", tuple(labels.items()))] == 5
    in_flight = next(f for f in families_of(telemetry.registry) if f.name == "turnout_in_flight")
    assert len(in_flight.samples) == MAX_ADAPTERS + 1
    assert in_flight.samples[("turnout_in_flight", (("adapter", OTHER),))] == 5
    assert telemetry.adapter_label("new@1") == OTHER


# --- over sockets --------------------------------------------------------------------------------------


@asynccontextmanager
async def peer(folder: Path, index: int, telemetry: Telemetry, *, count: int = 2) -> AsyncIterator[Peers]:
    """One worker's part."""
    report = {"ready": index == 0, "table": {"generation": 7}}
    made = Peers(telemetry, folder=folder, index=index, count=count, ready=lambda: report)
    await made.open()
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize("deep", [False, True])
def test_whichever_worker_is_scraped_speaks_for_all(tmp_path: Path, *, deep: bool) -> None:
    """Each worker answers with the sum, also where the state directory's path is longer than a socket's."""
    folder = folder_in(tmp_path / ("d" * 90 if deep else "d"))

    async def work() -> None:
        async with (
            peer(folder, 0, worker(errors=1)) as first,
            peer(folder, 1, worker(errors=2)) as second,
        ):
            for each in (first, second):
                assert sample(await each.exposition(), "turnout_errors_total", code="x") == 3
            said = await asyncio.gather(*(asyncio.to_thread(ask_ready, folder, i) for i in range(3)))
            assert said == [True, False, False]
            newer = [await asyncio.to_thread(ask_ready, folder, 0, generation=g) for g in (7, 8)]
            assert newer == [True, False]

    asyncio.run(work())


def test_counters_outlive_their_worker(tmp_path: Path) -> None:
    """What a dead worker had published still counts, and its successor goes on; clearing forgets it."""
    folder = folder_in(tmp_path)

    async def work() -> None:
        dying, survivor = worker(errors=5, queued=3), worker(errors=1)
        dead = Peers(dying, folder=folder, index=1, count=2, ready=dict)
        await dead.open()
        async with peer(folder, 0, survivor) as left:

            async def errors() -> float | None:
                return sample(await left.exposition(), "turnout_errors_total", code="x")

            assert await errors() == 6
            dying.errors.labels("x").inc(100)  # after the last scrape: nobody will hear of it
            assert dead._server is not None
            dead._server.close()  # and no file is written, as when it is killed
            assert await errors() == 6
            assert sample(await left.exposition(), "turnout_queued_requests") == 0
            async with peer(folder, 1, worker(errors=2)) as successor:
                assert await errors() == 8
                text = await successor.exposition()
                assert sample(text, "turnout_errors_total", code="x") == 8
            assert await errors() == 8
        clear(folder)
        async with peer(folder, 0, Telemetry()) as alone:
            assert sample(await alone.exposition(), "turnout_errors_total", code="x") is None

    asyncio.run(work())


def test_a_worker_without_a_supervisor_speaks_for_itself() -> None:
    """Without a folder nothing is written, and nobody is asked."""
    alone = Peers(worker(errors=1), folder=None, index=0, count=4, ready=dict)

    async def work() -> None:
        await alone.open()
        assert sample(await alone.exposition(), "turnout_errors_total", code="x") == 1
        await alone.close()

    asyncio.run(work())


def test_a_damaged_file_counts_for_nothing(tmp_path: Path) -> None:
    """Counters that can't be read are left out; the others are served."""
    folder = folder_in(tmp_path)
    folder.mkdir()
    (folder / "worker-1.counters").write_bytes(b"\x00")

    async def work() -> None:
        async with peer(folder, 0, worker(errors=1)) as left:
            assert sample(await left.exposition(), "turnout_errors_total", code="x") == 1

    asyncio.run(work())
