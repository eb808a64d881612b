"""What is judged: versions from the registry, folders, the base model, and the version in production."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.base import digest_of_model
from adapters.inspect import CONFIG, inspect
from adapters.manifest import BaseIdentity, Lineage, Manifest
from adapters.registry import MANIFEST, digest_of
from gateway.core.refs import BASE, VersionRef, valid_name
from gateway.core.routes import Route
from gateway.store.database import Database
from gateway.store.routes import Routes
from gateway.store.versions import VersionRow, Versions
from training.config import Quantization
from training.data.rows import Example
from training.publishing.lineage import LINEAGE

MODEL_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class System:
    """One thing that answers. `folder` and `digest` are None for the base model.

    `whole` is a model of its own, as full fine-tuning makes it, and `trained` what stands beside its weights.
    """

    name: str
    folder: Path | None = None
    digest: str | None = None
    manifest: Manifest | None = None
    in_production: bool = False
    whole: bool = False
    trained: Lineage | None = None

    @property
    def lineage(self) -> Lineage | None:
        """How it was made, where that was recorded."""
        return self.manifest.lineage if self.manifest is not None else self.trained

    @property
    def instruction(self) -> str | None:
        """The line that it was trained to find before every prompt."""
        given = self.lineage.config.get("instruction") if self.lineage else None
        return given if isinstance(given, str) else None

    @property
    def quantization(self) -> Quantization:
        """What the base model was quantized to when it was trained; the default where nobody recorded it.

        A whole model is trained in full precision and quantized when it is served.
        """
        if self.lineage is None or self.whole:
            return "nf4"
        return "none" if self.lineage.config.get("quantization") == "none" else "nf4"


BASE_SYSTEM = System(BASE)


class Catalogue:
    """The registry and the routes of one fleet, read only."""

    def __init__(self, state_dir: Path, url: str, base: BaseIdentity, *, max_rank: int) -> None:
        """Nothing is read yet, and nothing is ever made."""
        self._blobs = state_dir.absolute() / "adapters" / "blobs"
        self._url = url
        self._base = base
        self._max_rank = max_rank

    def systems(self, names: Sequence[str], *, route: str | None) -> list[System]:
        """Return the systems of these names, then what is in production on the route, then the base model.

        A name is `NAME@N`, `NAME` for its newest version, or a path to a folder (with a `/`, or one that is
        there). Without `route` it is that of the first name. Each system is there once.

        Raises:
            ValueError: there is no such version or folder, or it does not fit the base model.
            StoreUnavailable: the store can't be reached.
            OSError: files can't be read.
        """
        found = [self._named(name) for name in names]
        first = VersionRef.parse(names[0])
        wanted = route or (first.name if first else names[0])
        production = self._production(wanted) if valid_name(wanted) else None
        if route is not None and production is None:
            raise ValueError(f"--route {route}: there is no such route with traffic")
        if production is not None and production.digest is None:
            return [*_once(found), replace(BASE_SYSTEM, in_production=True)]
        return [*_once([*found, *([production] if production else [])]), BASE_SYSTEM]

    def named(self, name: str) -> System:
        """Return the system of one name as `systems` takes it, or the base model for `base`.

        Raises:
            ValueError: there is no such version or folder, or it does not fit the base model.
            StoreUnavailable: the store can't be reached.
            OSError: files can't be read.
        """
        return BASE_SYSTEM if name == BASE else self._named(name)

    def _named(self, name: str) -> System:
        path = Path(name)
        if "/" in name or path.is_dir():
            return self._folder(path)
        ref = VersionRef.parse(name)
        row = self._row(name, ref)
        if row is None:
            raise ValueError(
                f"there is no version {name}; `turnout adapters list` shows what there is, and a folder is "
                f"named with a slash: ./{name}"
            )
        return self._stored(row)

    def _folder(self, folder: Path) -> System:
        if not (folder / CONFIG).is_file():
            if (folder / MODEL_CONFIG).is_file():
                return _whole(folder)
            raise ValueError(
                f"{folder} holds no adapter and no model: neither {CONFIG} nor {MODEL_CONFIG} is in it"
            )
        inspect(folder, max_rank=self._max_rank)
        digest = digest_of(folder)
        manifest: Manifest | None = None
        if (folder / MANIFEST).is_file():
            manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
            if manifest.digest != digest:
                raise ValueError(
                    f"{folder / MANIFEST} describes other weights than the folder holds; remove it"
                )
            self._check_base(str(folder), manifest)
        return System(str(folder), folder, digest, manifest)

    def _stored(self, row: VersionRow) -> System:
        folder = self._blobs / row.digest.removeprefix("sha256:")
        if not folder.is_dir():
            raise ValueError(
                f"the files of {row.ref} are not on this machine ({folder}); name another --state-dir, or "
                "a folder"
            )
        if digest_of(folder) != row.digest:
            raise ValueError(f"the files of {row.ref} in {folder} are damaged; add the adapter again")
        manifest = Manifest.model_validate(row.manifest)
        self._check_base(str(row.ref), manifest)
        return System(str(row.ref), folder, row.digest, manifest)

    def _check_base(self, name: str, manifest: Manifest) -> None:
        made, ours = manifest.base, self._base
        if made.digest and ours.digest and made.digest != ours.digest:
            raise ValueError(f"{name} was trained on {made.name}, and this is {ours.name}; name its --base")

    def _row(self, name: str, ref: VersionRef | None) -> VersionRow | None:
        if ref is None and not valid_name(name):
            return None
        with _opened(self._url) as database:
            if database is None:
                return None
            versions = Versions(database)
            if ref is not None:
                return versions.get(ref)
            active = (row for row in versions.rows(name) if row.retired_at is None)
            return next(active, None)

    def _production(self, route: str) -> System | None:
        with _opened(self._url) as database:
            known = Routes(database).get(route) if database is not None else None
        label = stable_arm(known) if known is not None else None
        if label is None:
            return None
        if label == BASE:
            return replace(BASE_SYSTEM, in_production=True)
        return replace(self._named(label), in_production=True)


def stable_arm(route: Route) -> str | None:
    """Return what most of a route's traffic meets, a canary's candidate aside; None where there is none."""
    canary = route.spec.canary.candidate if route.spec.canary else None
    arms = [arm for arm in route.status.effective_arms if arm.share > 0]
    stable = [arm for arm in arms if arm.adapter != canary] or arms
    return max(stable, key=lambda arm: arm.share).adapter if stable else None


def shared_instruction(
    given: str | None, systems: Sequence[System], rows: Sequence[Example]
) -> tuple[str | None, list[str]]:
    """Return the line before every prompt, and notes: the given one, or the first system's own.

    Its own is left out where the rows have it already.
    """
    notes: list[str] = []
    chosen = given if given is not None else systems[0].instruction
    if given is None and chosen and all(chosen in row.key for row in rows):
        chosen = None
    for system in systems[1:]:
        own = system.instruction
        if system.digest is not None and own != systems[0].instruction:
            notes.append(
                f"{system.name} was trained with another instruction than {systems[0].name}; all systems get "
                "the same prompts, the candidate's"
            )
    return chosen or None, notes


def other_quantizations(systems: Sequence[System], given: Quantization | None = None) -> list[str]:
    """Return a note on each system made for another quantization than all get: the given, or the first's."""
    used = given or systems[0].quantization
    return [
        f"{each.name} was made for a base model in {each.quantization}, and is judged on one in {used}"
        + ("" if given else f", as {systems[0].name} is")
        for each in systems
        if each.digest is not None and not each.whole and each.quantization != used
    ]


def _whole(folder: Path) -> System:
    """Return a model that is no adapter. Its digest is computed anew: a folder may be trained into again."""
    made = folder / LINEAGE
    trained = Lineage.model_validate_json(made.read_bytes()) if made.is_file() else None
    return System(str(folder), folder, digest_of_model(folder), whole=True, trained=trained)


@contextmanager
def _opened(url: str) -> Iterator[Database | None]:
    """Open the store to read in; None where its file is not there, since looking makes nothing."""
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file():
        yield None
        return
    database = Database(url, "control")
    try:
        yield database
    finally:
        database.close()


def _once(systems: Sequence[System]) -> list[System]:
    """Return each content once, under its first name, in production if any of its names is."""
    by_digest: dict[str | None, System] = {}
    for system in systems:
        known = by_digest.get(system.digest)
        by_digest[system.digest] = (
            system
            if known is None
            else replace(known, in_production=known.in_production or system.in_production)
        )
    return list(by_digest.values())
