"""The version that training goes on from, by opt-in: found in the registry or in a folder, and checked."""

from dataclasses import dataclass
from pathlib import Path

from adapters.inspect import inspect
from adapters.manifest import BaseIdentity, Manifest
from adapters.registry import MANIFEST, digest_of
from gateway.core.refs import VersionRef
from gateway.store.database import Database
from gateway.store.versions import Versions
from training.publishing.publish import Fleet, blob_folder


@dataclass(frozen=True, slots=True)
class Parent:
    """A version's files on this machine, and how lineage names it."""

    folder: Path
    name: str


def parent_of(given: str, fleet: Fleet, base: BaseIdentity) -> Parent:
    """Return the version `NAME@N` of the fleet's registry, or the adapter in a folder.

    Raises:
        ValueError: there is no such version, its files are not here or damaged, or it is for another base.
        StoreUnavailable: the store can't be reached.
    """
    ref = VersionRef.parse(given)
    if ref is not None:
        return _registered(ref, fleet, base)
    folder = Path(given)
    if not folder.is_dir():
        raise ValueError(f"--from {given} is neither a version (NAME@N) nor a folder with an adapter")
    inspect(folder, max_rank=None)
    manifest = folder / MANIFEST
    if manifest.is_file():
        _require_base(given, Manifest.model_validate_json(manifest.read_bytes()).base, base)
    return Parent(folder, digest_of(folder))


def _registered(ref: VersionRef, fleet: Fleet, base: BaseIdentity) -> Parent:
    if fleet.url.startswith("sqlite:///") and not Path(fleet.url.removeprefix("sqlite:///")).is_file():
        raise ValueError(f"--from {ref}: this fleet has no versions yet ({fleet.url})")
    database = Database(fleet.url, "control")
    try:
        database.migrate()
        row = Versions(database).get(ref)
    finally:
        database.close()
    if row is None:
        raise ValueError(f"--from {ref}: the registry has no such version; see `turnout adapters list`")
    folder = blob_folder(fleet, row.digest)
    if not folder.is_dir():
        raise ValueError(
            f"--from {ref}: its files are not on this machine ({folder}); train where the registry is, or "
            "name a copy of its folder"
        )
    if digest_of(folder) != row.digest:
        raise ValueError(f"--from {ref}: the files in {folder} are damaged; add the version again")
    _require_base(str(ref), Manifest.model_validate(row.manifest).base, base)
    return Parent(folder, f"{ref} {row.digest}")


def _require_base(given: str, theirs: BaseIdentity, ours: BaseIdentity) -> None:
    if theirs.digest and ours.digest and theirs.digest != ours.digest:
        raise ValueError(
            f"--from {given} was trained on {theirs.name} ({theirs.digest[:19]}…), and this is {ours.name} "
            f"({ours.digest[:19]}…); train from the base, or with --base the other one"
        )
