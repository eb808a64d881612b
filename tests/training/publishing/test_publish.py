"""Publishing a finished folder."""

from pathlib import Path

import pytest

from adapters.inspect import UnservableAdapter
from adapters.manifest import BaseIdentity
from gateway.store.control import ControlStore
from gateway.store.database import Database
from tests.adapters.folders import make_adapter
from training.publishing.publish import Fleet, control_url, publish

BASE = BaseIdentity(name="small")


def adapter(folder: Path, *, rank: int = 4) -> Path:
    """Write an adapter and return its folder."""
    return make_adapter(folder, rank=rank, base_model_name_or_path="small")


def fleet(folder: Path) -> Fleet:
    """Return a fleet whose state directory is not there yet."""
    return Fleet(folder / "state", control_url(folder / "state", None), 8)


def test_a_folder_becomes_a_version_with_a_route(tmp_path: Path) -> None:
    """The first version gets number 1 and a route; the same bytes again are the same version."""
    folder, where = adapter(tmp_path / "a"), fleet(tmp_path)
    first, new = publish("one", folder, fleet=where, base=BASE, actor="t")
    again, newer = publish("one", folder, fleet=where, base=BASE, actor="t")
    assert (str(first.ref), new, newer) == ("one@1", True, False)
    assert again.ref == first.ref
    database = Database(where.url, "control")
    try:
        snapshot = ControlStore(database).snapshot()
    finally:
        database.close()
    assert [route.name for route in snapshot.routes] == ["one"]


def test_what_can_not_be_served_is_not_published(tmp_path: Path) -> None:
    """An adapter above the fleet's rank leaves no version behind."""
    where = fleet(tmp_path)
    with pytest.raises(UnservableAdapter, match="rank 16"):
        publish("one", adapter(tmp_path / "a", rank=16), fleet=where, base=BASE, actor="t")
    database = Database(where.url, "control")
    try:
        assert ControlStore(database).versions.rows() == []
    finally:
        database.close()
