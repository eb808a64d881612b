"""What is judged: the registry, folders, and what is in production."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.manifest import BaseIdentity
from gateway.core.documents import Arm
from gateway.core.routes import RouteStatus
from gateway.store.control import ControlStore
from gateway.store.database import Database
from tests.adapters.folders import make_adapter
from training.evaluation.systems import Catalogue, System
from training.publishing.publish import Fleet, control_url, publish

BASE = BaseIdentity(name="small")


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A state directory with three versions of `one`."""
    where = Fleet(tmp_path / "state", control_url(tmp_path / "state", None), 8)
    for number in range(3):
        folder = make_adapter(tmp_path / f"a{number}", rank=4, base_model_name_or_path="small", seed=number)
        publish("one", folder, fleet=where, base=BASE, actor="t")
    return tmp_path / "state"


@pytest.fixture
def store(state: Path) -> Iterator[ControlStore]:
    """The control store of the state directory."""
    database = Database(control_url(state, None), "control")
    yield ControlStore(database)
    database.close()


def find(state: Path, *names: str, route: str | None = None) -> list[System]:
    """Return the systems of these names."""
    return Catalogue(state, control_url(state, None), BASE, max_rank=8).systems(names, route=route)


def serve(store: ControlStore, *arms: tuple[str, float]) -> None:
    """Give the route `one` these arms."""
    route = store.routes.get("one")
    assert route is not None
    status = RouteStatus(
        state="active", effective_arms=tuple(Arm(adapter=name, share=share) for name, share in arms)
    )
    store.routes.set_status("one", status, generation=route.generation, actor="t")


def shown(systems: list[System]) -> list[str]:
    """Return names, with a star on what is in production."""
    return [system.name + "*" * system.in_production for system in systems]


def test_versions_are_found_by_number_and_the_newest_by_name(state: Path) -> None:
    """The base model comes last, always."""
    assert shown(find(state, "one@1")) == ["one@1", "base"]
    assert shown(find(state, "one")) == ["one@3", "base"]


def test_a_retired_version_is_not_the_newest(state: Path, store: ControlStore) -> None:
    """It can still be named."""
    from gateway.core.refs import VersionRef

    store.versions.retire(VersionRef("one", 3), actor="t")
    assert shown(find(state, "one", "one@3")) == ["one@2", "one@3", "base"]


@pytest.mark.parametrize(
    ("arms", "expected"),
    [
        ([("one@1", 1.0)], ["one@3", "one@1*", "base"]),
        ([("one@2", 0.8), ("one@3", 0.2)], ["one@3", "one@2*", "base"]),
        ([("one@3", 1.0)], ["one@3*", "base"]),
        ([("base", 1.0)], ["one@3", "base*"]),
        ([], ["one@3", "base"]),
    ],
)
def test_production_is_what_most_traffic_meets(
    state: Path, store: ControlStore, arms: list[tuple[str, float]], expected: list[str]
) -> None:
    """Each content is judged once, whatever its names."""
    serve(store, *arms)
    assert shown(find(state, "one@3")) == expected


def test_a_folder_is_judged_beside_the_route_that_is_named(
    state: Path, store: ControlStore, tmp_path: Path
) -> None:
    """Without `--route` a folder has none."""
    serve(store, ("one@1", 1.0))
    fresh = make_adapter(tmp_path / "fresh", rank=4, base_model_name_or_path="small", seed=9)
    assert shown(find(state, str(fresh))) == [str(fresh), "base"]
    assert shown(find(state, str(fresh), route="one")) == [str(fresh), "one@1*", "base"]
    with pytest.raises(ValueError, match="--route two"):
        find(state, str(fresh), route="two")


def test_a_folder_of_the_same_content_is_the_version(state: Path, tmp_path: Path) -> None:
    """Comparing something with itself tells nothing."""
    assert shown(find(state, str(tmp_path / "a0"), "one@1")) == [str(tmp_path / "a0"), "base"]


@pytest.mark.parametrize("name", ["one@9", "two", "./nowhere", "Not A Name"])
def test_what_is_not_there_is_said(state: Path, name: str) -> None:
    """With where to look."""
    with pytest.raises(ValueError, match=r"no version|no adapter"):
        find(state, name)


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    """A state directory that is not there stays so."""
    with pytest.raises(ValueError, match="no version"):
        find(tmp_path / "none", "one@1")
    assert not (tmp_path / "none").exists()


def test_damaged_or_missing_files_are_not_judged(state: Path) -> None:
    """What would be judged must be what is registered."""
    system = find(state, "one@1")[0]
    assert system.folder is not None
    weights = system.folder / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="damaged"):
        find(state, "one@1")
    shutil.rmtree(system.folder)
    with pytest.raises(ValueError, match="not on this machine"):
        find(state, "one@1")
