"""The store that a benchmark's gateway serves from."""

from pathlib import Path

from gateway.core.routes import Capture
from gateway.routing.table import build
from gateway.store.control import ControlStore
from gateway.store.database import Database
from loadtests.overhead.gateway_worker import ARMS, environment, prepare


def test_the_store_has_a_route_with_three_served_arms(tmp_path: Path) -> None:
    """A worker that reads it finds a key, one healthy replica, and every arm attested there."""
    house = prepare(tmp_path, "http://127.0.0.1:9", model="bench")
    database = Database(f"sqlite:///{house.folder / 'control.db'}", "control")
    try:
        table = build(ControlStore(database).snapshot(), base_model="base", default_capture=Capture())
    finally:
        database.close()
    assert [arm.adapter for arm in table.routes["bench"].arms] == [f"{name}@1" for name in ARMS]
    assert all(table.placement[f"{name}@1"] == ("replica-0",) for name in ARMS)
    assert house.key.split("-")[1] in table.keys
    assert environment(house, port=1)["TURNOUT_STATE_DIR"] == str(house.folder)
