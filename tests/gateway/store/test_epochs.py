"""Epochs: written with the flip that begins them, and only when shares change."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config

from gateway.core.canary import Canary, CanaryStatus
from gateway.core.routes import Arm, RouteSpec, RouteStatus
from gateway.store import epochs as store_epochs
from gateway.store import revisions
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.epochs import EpochRow, champion, champion_since
from gateway.store.fleet import CONTROLLER, LeaseLost
from tests.gateway.store.conftest import Clock


def arms(**shares: float) -> tuple[Arm, ...]:
    """Arms of versions 1 with these shares."""
    return tuple(Arm(adapter=f"{name}@1", share=share) for name, share in shares.items())


def flip(control: ControlStore, wanted: tuple[Arm, ...], **more: object) -> int:
    """Give route `r` these effective arms; return the generation at which they hold."""
    route = control.routes.get("r") or control.routes.put("r", RouteSpec(arms=arms(a=1)), actor="me")[0]
    status = RouteStatus(state="active", active_generation=route.generation, effective_arms=wanted)
    assert control.routes.set_status("r", status, generation=route.generation, actor="c", **more)  # type: ignore[arg-type]
    return control.generation()


def test_a_flip_begins_an_epoch(control: ControlStore, clock: Clock) -> None:
    """It says since which generation which shares hold; arms without a share are left out."""
    first = flip(control, arms(a=1, b=0))
    clock.now = 2000.0
    second = flip(control, arms(a=0.9, b=0.1))
    assert [(row.from_generation, row.at, row.arms) for row in control.epochs.rows("r")] == [
        (first, 1000.0, {"a@1": 1.0}),
        (second, 2000.0, {"a@1": 0.9, "b@1": 0.1}),
    ]
    assert [row.from_generation for row in control.epochs.rows("r", after=first)] == [second]
    assert control.epochs.rows("s") == []


def test_the_same_shares_go_on(control: ControlStore) -> None:
    """Arms in another order, or another arm without a share, begin no epoch."""
    flip(control, arms(a=0.5, b=0.5))
    flip(control, arms(b=0.5, a=0.5, c=0))
    assert len(control.epochs.rows("r")) == 1


def test_a_deleted_route_ends_its_epoch(control: ControlStore) -> None:
    """What is made under the same name later is another epoch, whatever its shares."""
    flip(control, arms(a=1))
    control.routes.remove("r", actor="me")
    flip(control, arms(a=1))
    assert [row.arms for row in control.epochs.rows("r")] == [{"a@1": 1.0}, {}, {"a@1": 1.0}]


def test_a_flip_and_its_epoch_are_one(control: ControlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever breaks in between leaves neither."""
    flip(control, arms(a=1))

    def broken(*_: object, **__: object) -> None:
        raise LeaseLost("killed here")

    monkeypatch.setattr(store_epochs, "begin", broken)
    before = control.generation()
    with pytest.raises(LeaseLost):
        flip(control, arms(a=0.5, b=0.5))
    route = control.routes.get("r")
    assert route is not None
    assert (route.status.effective_arms, control.generation()) == (arms(a=1), before)


def test_a_decision_made_from_an_older_status_is_not_written(control: ControlStore) -> None:
    """A status is written only in place of the one that the decision was made from."""
    flip(control, arms(a=1))
    route = control.routes.get("r")
    assert route is not None
    old = route.status
    flip(control, arms(b=1))
    wanted = old.model_copy(update={"effective_arms": arms(c=1)})
    assert not control.routes.set_status("r", wanted, generation=route.generation, actor="c", instead_of=old)
    assert len(control.epochs.rows("r")) == 2


CANARY = Canary(candidate="b@1")


@pytest.mark.parametrize(
    ("spec", "stays"),
    [
        (RouteSpec(arms=arms(a=1), canary=CANARY, sticky="key"), True),
        (RouteSpec(arms=arms(a=1), canary=CANARY.model_copy(update={"min_units": 7})), False),
        (RouteSpec(arms=arms(c=1), canary=CANARY), False),
        (RouteSpec(arms=arms(a=1)), False),
    ],
)
def test_a_canary_outlives_what_is_not_about_it(control: ControlStore, spec: RouteSpec, stays: bool) -> None:
    """A new spec with the same arms and canary undoes no step; any other ends the canary."""
    route, _ = control.routes.put("r", RouteSpec(arms=arms(a=1), canary=CANARY), actor="me")
    canary = CanaryStatus(
        candidate="b@1", stable="a@1", share=0.05, started_at=1, step_at=1,
        after_generation=0, step_after_generation=0,
    )  # fmt: skip
    status = RouteStatus(state="active", effective_arms=arms(a=0.95, b=0.05), canary_step=1, canary=canary)
    control.routes.set_status("r", status, generation=route.generation, actor="c")
    route, changed = control.routes.put("r", spec, actor="me")
    assert changed
    assert (route.status.canary, route.status.canary_step) == ((canary, 1) if stays else (None, None))


def test_a_canary_that_is_held_leaves_an_event(control: ControlStore) -> None:
    """A new state of the canary is in the log, also when the traffic stays as it was; new figures are not."""
    flip(control, arms(a=0.95, b=0.05))
    route = control.routes.get("r")
    assert route is not None
    canary = CanaryStatus(
        candidate="b@1", stable="a@1", share=0.05, started_at=1, step_at=1,
        after_generation=0, step_after_generation=0,
    )  # fmt: skip
    for change, action in (
        ({}, "route.canary"),
        ({"figures": {"x": 1}}, None),
        ({"state": "held"}, "route.canary"),
    ):
        canary = canary.model_copy(update=change)
        before = control.events.rows()[0].id
        status = route.status.model_copy(update={"canary": canary})
        control.routes.set_status("r", status, generation=route.generation, actor="c")
        newest = control.events.rows()[0]
        assert (newest.action if newest.id != before else None) == action


def test_findings(control: ControlStore, clock: Clock) -> None:
    """The last finding of a route replaces the one before, and only the controller writes it."""
    epoch = control.fleet.acquire(CONTROLLER, "one", ttl_s=60)
    assert epoch is not None
    assert control.findings.get("r") is None
    control.findings.put("r", {"a": 1}, epoch=epoch)
    clock.now += 1
    control.findings.put("r", {"a": 2}, epoch=epoch)
    found = control.findings.get("r")
    assert found is not None
    assert (found.at, found.figures) == (1001.0, {"a": 2})
    with pytest.raises(LeaseLost):
        control.findings.put("r", {"a": 3}, epoch=epoch + 1)
    control.routes.put("r", RouteSpec(arms=arms(a=1)), actor="me")
    control.routes.remove("r", actor="me")
    assert control.findings.get("r") is None


def test_routes_of_before_begin_an_epoch(tmp_path: Path) -> None:
    """An older store's routes that serve have an epoch from the migration on."""
    database = Database(f"sqlite:///{tmp_path}/control.db", "control", durable=False)
    serving = '{"effective_arms": [{"adapter": "a@1", "share": 1.0}]}'
    config = Config()
    config.set_main_option("script_location", str(revisions.MIGRATIONS / "control"))
    config.set_main_option("path_separator", "os")
    with database.write() as connection:
        config.attributes.update(connection=connection, schema="control")
        command.upgrade(config, "0005")
        connection.exec_driver_sql("INSERT INTO generations VALUES (1, 7)")
        insert = "INSERT INTO routes VALUES (?, '{}', 5, ?, 1)"
        connection.exec_driver_sql(insert, ("r", serving))
        connection.exec_driver_sql(insert, ("s", '{"state": "preparing"}'))
    database.migrate()
    control = ControlStore(database)
    assert [(row.from_generation, row.arms) for row in control.epochs.rows("r")] == [(7, {"a@1": 1.0})]
    assert control.epochs.rows("s") == []
    database.close()


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ({"s@1": 1.0}, "s@1"),
        ({"s@1": 0.95, "s@2": 0.05}, "s@1"),
        ({"s@1": 0.4, "s@2": 0.6}, "s@2"),
        ({"s@2": 0.5, "s@1": 0.5}, "s@1"),
        ({"s@1": 0.0}, None),
        ({}, None),
    ],
)
def test_the_champion_has_most_of_the_traffic(arms: dict[str, float], expected: str | None) -> None:
    """Equals are ordered by name, and nothing served is nobody's."""
    assert champion(arms) == expected


def test_steps_of_a_canary_change_nothing() -> None:
    """A version's time begins when it got most of the traffic, and not with each step beside it."""
    epochs = [
        EpochRow("r", number, float(number), arms)
        for number, arms in enumerate(
            [{"s@1": 1.0}, {"s@2": 1.0}, {"s@2": 0.95, "s@3": 0.05}, {"s@2": 0.7, "s@3": 0.3}, {"s@2": 1.0}]
        )
    ]
    assert champion_since(epochs, "s@2") == 1.0
    assert champion_since(epochs, "s@1") is None
    assert champion_since([*epochs, EpochRow("r", 9, 9.0, {"s@1": 1.0})], "s@1") == 9.0
