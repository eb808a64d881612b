"""Publish a finished adapter folder: the next version of its name, whole or not at all."""

from dataclasses import dataclass
from pathlib import Path

from adapters.manifest import BaseIdentity
from adapters.registry import Registry
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.versions import VersionRow, Versions


@dataclass(frozen=True, slots=True)
class Fleet:
    """Where an adapter is published, and the highest rank that is served there."""

    state_dir: Path
    url: str
    max_rank: int


def control_url(state_dir: Path, given: str | None) -> str:
    """Return the control database's URL: the given one, or the state directory's own SQLite file."""
    return given or f"sqlite:///{state_dir.absolute() / 'control.db'}"


def publish(
    name: str,
    folder: Path,
    *,
    fleet: Fleet,
    base: BaseIdentity,
    actor: str,
) -> tuple[VersionRow, bool]:
    """Add the adapter in `folder` with its own manifest to the registry; return it with whether it is new.

    Nothing is visible before the blob is whole on the disk and the version is numbered.

    Raises:
        UnservableAdapter: the adapter can't be served by this fleet.
        StoreUnavailable: the store can't be reached.
        OSError: the blob can't be written.
    """
    database = Database(fleet.url, "control")
    try:
        database.migrate()
        store = ControlStore(database)
        blobs = fleet.state_dir.absolute() / "adapters"
        registry = Registry(blobs, store.versions, base=base, max_rank=fleet.max_rank)
        return registry.add(name, folder, actor=actor, source=f"training: {name}", why="turnout train")
    finally:
        database.close()


def newest(name: str, fleet: Fleet) -> Path | None:
    """Return the folder of the newest version of `name` in the fleet, if its files are on this machine.

    Nothing is made: a fleet that has no database yet has no versions.

    Raises:
        StoreUnavailable: the store can't be reached.
    """
    if fleet.url.startswith("sqlite:///") and not Path(fleet.url.removeprefix("sqlite:///")).is_file():
        return None
    database = Database(fleet.url, "control")
    try:
        database.migrate()
        rows = Versions(database).rows(name, limit=1)
    finally:
        database.close()
    if not rows:
        return None
    folder = blob_folder(fleet, rows[0].digest)
    return folder if folder.is_dir() else None


def blob_folder(fleet: Fleet, digest: str) -> Path:
    """Return where the files of a version are on this machine, if they are."""
    return fleet.state_dir.absolute() / "adapters" / "blobs" / digest.removeprefix("sha256:")
