"""Homes, asks and usage in the store."""

import pytest

from gateway.core.refs import VersionRef
from gateway.store.control import ControlStore
from gateway.store.fleet import CONTROLLER, LeaseLost
from gateway.store.placement import Counts

A, B = VersionRef("a", 1), VersionRef("b", 1)


@pytest.fixture
def epoch(control: ControlStore) -> int:
    """A controller's epoch."""
    taken = control.fleet.acquire(CONTROLLER, "test", ttl_s=60)
    assert taken is not None
    return taken


def test_homes_are_a_change_of_the_table(control: ControlStore, epoch: int) -> None:
    """New homes are a new generation and part of the snapshot; the same homes again are neither."""
    before = control.generation()
    control.placement.set_homes({A: ("r1", "r0"), B: ("r1",)}, epoch=epoch)
    assert control.generation() == before + 1
    assert control.snapshot().homes == {A: ("r0", "r1"), B: ("r1",)}
    control.placement.set_homes({A: ("r0", "r1"), B: ("r1",)}, epoch=epoch)
    assert control.generation() == before + 1
    control.placement.set_homes({B: ("r0",)}, epoch=epoch)
    assert control.placement.homes() == {B: ("r0",)}


def test_cold_loads_and_evictions_add_up(control: ControlStore, epoch: int) -> None:
    """Counts survive, by version."""
    control.placement.set_homes({A: ("r0",)}, cold_loaded={A}, evicted={B}, epoch=epoch)
    control.placement.set_homes({B: ("r0",)}, cold_loaded={B}, evicted={A}, epoch=epoch)
    control.placement.set_homes({A: ("r0",)}, cold_loaded={A}, epoch=epoch)
    assert control.placement.counts() == {A: Counts(2, 1), B: Counts(1, 1)}
    assert control.placement.counts(most=1) == {A: Counts(2, 1)}


def test_an_ask_is_one_however_many_ask(control: ControlStore, epoch: int) -> None:
    """A second worker's ask is the same one, from the first moment on and until the later end."""
    first = control.placement.ask(A, stands_s=5)
    second = control.placement.ask(A, stands_s=90)
    third = control.placement.ask(A, stands_s=7)
    assert {ask.asked_at for ask in (first, second, third)} == {first.asked_at}
    assert third.until == second.until > first.until
    assert [(ask.until, ask.over) for ask in control.placement.asked()] == [(second.until, False)]
    control.placement.refuse(A, "it is broken", epoch=epoch)
    assert control.placement.ask(A, stands_s=0).refusal == "it is broken"
    control.placement.forget([A], epoch=epoch)
    assert control.placement.asked() == []


def test_usage_of_workers_adds_up_and_fades(control: ControlStore) -> None:
    """Counts add up at one moment, each decayed from when it was reported; the base model's are left out."""
    control.placement.report_usage("w1", {"a@1": (8.0, 90.0), "base": (5.0, 99.0)}, at=100.0)
    control.placement.report_usage("w2", {"a@1": (4.0, 95.0), "b@1": (1.0, 80.0)}, at=110.0)
    found = control.placement.usage(now=110.0, half_life_s=10.0)
    assert {ref: (used.count, used.used_at) for ref, used in found.items()} == {
        A: (pytest.approx(8.0), 95.0),
        B: (pytest.approx(1.0), 80.0),
    }


def test_usage_of_workers_long_gone_is_dropped(control: ControlStore) -> None:
    """A worker that has not reported for an hour leaves nothing behind."""
    control.placement.report_usage("w1", {"a@1": (8.0, 0.0)}, at=0.0)
    control.placement.report_usage("w2", {"b@1": (8.0, 0.0)}, at=3601.0)
    assert control.placement.usage(now=3601.0, half_life_s=60.0).keys() == {B}


def test_another_controller_changes_nothing(control: ControlStore, epoch: int) -> None:
    """Everything that a controller writes names its epoch."""
    control.fleet.release(CONTROLLER, "test")
    for write in (
        lambda: control.placement.set_homes({A: ("r0",)}, epoch=epoch),
        lambda: control.placement.refuse(A, "no", epoch=epoch),
        lambda: control.placement.forget([A], epoch=epoch),
    ):
        with pytest.raises(LeaseLost):
            write()
    assert control.placement.homes() == {}
