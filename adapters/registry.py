"""The registry: blobs on disk by digest, versions in the store by name and number.

Adding is atomic. The files are copied beside the blobs, checked and synced there, and renamed into place;
only then the version is numbered, in one transaction. A crash before leaves no version: at most a scratch
folder, which the next add sweeps, or a whole blob without a version, which the next add of that content uses.
Blobs are read-only and never changed or removed here once a version has them: an engine re-reads an evicted
adapter from its path in the middle of a step, and dies if the files are gone. `adapters.collect` removes
those of retired versions when no engine can need them.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from adapters.inspect import CONFIG, MAX_ADAPTER_BYTES, WEIGHTS, AdapterFacts, UnservableAdapter, inspect
from adapters.manifest import BaseIdentity, Evaluation, Lineage, Manifest, Reference
from adapters.progress import Progress, silent
from adapters.publishing import Publish
from adapters.shapes import BaseShapes, shapes_of
from gateway.core.refs import NAME_PATTERN, valid_name
from gateway.store.database import StoreUnavailable
from gateway.store.versions import VersionRow, Versions

MANIFEST = "manifest.json"
STALE_SCRATCH_S = 24 * 3600.0
"""Longer than any fetch or add may take."""

MAX_MANIFEST_BYTES = 16 * 1024 * 1024


class Registry:
    """Adapter versions under one blob root, numbered by one store."""

    def __init__(
        self,
        root: Path,
        versions: Versions,
        *,
        base: BaseIdentity,
        max_rank: int,
        base_folder: Path | None = None,
        max_bytes: int = MAX_ADAPTER_BYTES,
        publish: Publish | None = None,
        keep: bool = True,
    ) -> None:
        """Nothing is read yet. With `base_folder`, adapters must fit the layers of the base model there.

        `publish` puts a blob where engines of other machines get it from, before it has a version. Where all
        of them do, none has to be kept here: `keep`.
        """
        assert keep or publish, "a blob has to be somewhere"  # noqa: S101 - a programmer's error
        self.root = root
        self._versions = versions
        self._base = base
        self._max_rank = max_rank
        self._base_folder = base_folder
        self._max_bytes = max_bytes
        self._publish = publish
        self._keep = keep

    def add(
        self,
        name: str,
        folder: Path,
        *,
        actor: str,
        source: str | None = None,
        why: str | None = None,
        lineage: Lineage | None = None,
        evaluation: Evaluation | None = None,
        reference: Reference | None = None,
        progress: Progress = silent,
    ) -> tuple[VersionRow, bool]:
        """Add the adapter in `folder` as the next version of `name`; return it with whether it is new.

        What training left in the folder's own `manifest.json` (lineage, evaluation, reference) is kept
        unless it is given here.

        Raises:
            UnservableAdapter: the name or the folder can't be served; the message says why.
            OSError: the blob can't be written or published. Nothing is left behind on this machine.
            StoreUnavailable: the version can't be numbered.
        """
        self._require_name(name)
        shapes = self._shapes()
        looked_at = inspect(folder, max_rank=self._max_rank, base=shapes, values=False)
        size = looked_at.size_bytes
        if size > self._max_bytes:
            raise UnservableAdapter(
                f"{WEIGHTS} has {size} bytes, above the limit of {self._max_bytes} "
                "(registry.max_source_bytes); train with a smaller rank or fewer modules, or raise it"
            )
        self._sweep()
        progress("storing", 0, size)
        with self._copy(folder) as scratch:
            progress("checking", 0, size)
            # Once more, on the copy: nobody else writes there, so what is checked is what is stored.
            facts = inspect(scratch, max_rank=self._max_rank, base=shapes)
            digest = digest_of(scratch)
            made = _own_manifest(folder, digest)
            self._check_base(facts, made)
            manifest = Manifest(
                name=name,
                digest=digest,
                base=self._base,
                rank=facts.rank,
                alpha=facts.alpha,
                target_modules=facts.target_modules,
                dtype=facts.dtype,
                size_bytes=facts.size_bytes,
                source=source or str(folder),
                created_at=time.time(),
                lineage=lineage or (made.lineage if made else None),
                evaluation=evaluation or (made.evaluation if made else None),
                reference=reference or (made.reference if made else None),
            )
            progress("storing", size, size)
            if self._publish is not None:
                self._publish(scratch, digest)
            return self._number(name, scratch, manifest, actor=actor, why=why)

    def path(self, digest: str) -> Path:
        """Return where the blob of a digest lies on this machine."""
        return self.root / "blobs" / digest.removeprefix("sha256:")

    def verify(self, digest: str) -> bool:
        """Whether the blob is there and its bytes have that digest."""
        try:
            return digest_of(self.path(digest)) == digest
        except (OSError, ValueError):
            return False

    def _check_base(self, facts: AdapterFacts, made: Manifest | None) -> None:
        if (
            made is not None
            and made.base.digest
            and self._base.digest
            and made.base.digest != self._base.digest
        ):
            raise UnservableAdapter(
                f"this adapter was trained on {made.base.name} ({made.base.digest[:19]}…), "
                f"and this fleet serves {self._base.name} ({self._base.digest[:19]}…)"
            )
        named = facts.base_name.rstrip("/").rsplit("/", 1)[-1]
        if made is None and named and named.lower() != self._base.name.lower():
            raise UnservableAdapter(
                f"{CONFIG} names the base {facts.base_name!r}, and this fleet serves {self._base.name!r}; "
                "if that "
                "is the same model by another name, write the fleet's into base_model_name_or_path"
            )

    def _require_name(self, name: str) -> None:
        if not valid_name(name) or name == self._base.name.lower():
            raise UnservableAdapter(
                f"{name[:128]!r} can't name an adapter: names match {NAME_PATTERN}, and 'base' is taken, "
                "as is the base model's own name, however it is capitalized"
            )

    def _shapes(self) -> BaseShapes | None:
        if self._base_folder is None:
            return None
        try:
            return shapes_of(self._base_folder)
        except OSError:  # not there any more: the engine's own check comes later
            return None

    def _number(
        self, name: str, scratch: Path, manifest: Manifest, *, actor: str, why: str | None
    ) -> tuple[VersionRow, bool]:
        """Put the blob in its place and number the version, one add at a time.

        Without the lock, an add that gives its blob up because the store failed could take it away from
        another add of the same content that has just found it there.
        """
        document = manifest.model_dump(mode="json")
        if not self._keep:
            return self._versions.add(name, manifest.digest, document, actor=actor, why=why)
        with self._exclusively():
            fresh = self._place(scratch, manifest.digest)
            try:
                _sync(self.path(manifest.digest).parent)
                numbered = self._versions.add(name, manifest.digest, document, actor=actor, why=why)
            except (OSError, StoreUnavailable):
                if fresh:
                    self._withdraw(manifest.digest)
                raise
            if not self.path(manifest.digest).is_dir():
                # It was a retired version's, and was removed before this one was numbered.
                self._place(scratch, manifest.digest)
            return numbered

    @contextmanager
    def _exclusively(self) -> Iterator[None]:
        """Hold the registry's lock, over threads and processes; a process that dies lets go of it."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _copy(self, folder: Path) -> Iterator[Path]:
        """Yield a synced, read-only copy of the adapter's two files; it is gone at the end of the block."""
        scratch = self.root / "incoming" / uuid.uuid4().hex
        scratch.mkdir(parents=True)
        try:
            before = _marks(folder)
            for part in (CONFIG, WEIGHTS):
                shutil.copyfile(folder / part, scratch / part)
                _sync(scratch / part)
                (scratch / part).chmod(0o444)
            if _marks(folder) != before:
                raise UnservableAdapter(
                    f"{folder} changed while it was read; try again when nothing writes to it"
                )
            _sync(scratch)
            yield scratch
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _place(self, scratch: Path, digest: str) -> bool:
        """Make a copy the blob of that digest; whether there was none. One that is damaged is mended."""
        place = self.path(digest)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.is_dir():
            scratch.rename(place)
            return True
        if not self.verify(digest):
            # Whole files in the place of damaged ones, each in one step: an engine may be reading them.
            for part in (CONFIG, WEIGHTS):
                (scratch / part).replace(place / part)
            _sync(place)
        return False

    def _withdraw(self, digest: str) -> None:
        """Remove a blob that no version has got; when the store can't tell, it stays for the next add."""
        with suppress(StoreUnavailable):
            if not self._versions.has_digest(digest):
                shutil.rmtree(self.path(digest), ignore_errors=True)

    def _sweep(self) -> None:
        """Remove what adds left that died a day ago or more."""
        horizon = time.time() - STALE_SCRATCH_S
        for scratch in (self.root / "incoming").glob("*"):
            with suppress(FileNotFoundError):  # its owner finished meanwhile
                if scratch.stat().st_mtime < horizon:
                    shutil.rmtree(scratch, ignore_errors=True)


def _marks(folder: Path) -> list[tuple[int, int, int]]:
    found = ((folder / part).stat() for part in (CONFIG, WEIGHTS))
    return [(state.st_size, state.st_mtime_ns, state.st_ino) for state in found]


def digest_of(folder: Path) -> str:
    """Return `sha256:…` over an adapter's config (as canonical JSON) and weights."""
    whole = hashlib.sha256()
    config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    # Where the base lay on the machine that trained is no content of the adapter.
    config.pop("base_model_name_or_path", None)
    whole.update(hashlib.sha256(json.dumps(config, sort_keys=True).encode()).digest())
    with (folder / WEIGHTS).open("rb") as file:
        whole.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{whole.hexdigest()}"


def _own_manifest(folder: Path, digest: str) -> Manifest | None:
    """Return what training left beside the weights, provided that it speaks of these weights."""
    path = folder / MANIFEST
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_MANIFEST_BYTES:
        raise UnservableAdapter(f"{path} is over {MAX_MANIFEST_BYTES} bytes")
    try:
        made = Manifest.model_validate_json(path.read_bytes())
    except ValueError as error:
        raise UnservableAdapter(f"{path} is not a valid manifest: {error}") from error
    if made.digest != digest:
        raise UnservableAdapter(
            f"{path} describes other weights ({made.digest[:19]}…) than the folder holds ({digest[:19]}…); "
            "remove it, or publish the folder that training wrote as it is"
        )
    return made


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
