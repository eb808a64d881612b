"""The registry: blobs on disk by digest, versions in the store by name and number.

Adding is atomic. A blob is written beside its place, synced, and renamed into it; only then the version
is numbered, in one transaction. A crash before leaves at most a `.tmp-` folder, which the next add sweeps.
Blobs are read-only and never changed or removed here: an engine re-reads an evicted adapter from its
path in the middle of a step, and dies if the files are gone. `adapters.collect` removes those of retired
versions when no engine can need them.
"""

import hashlib
import json
import os
import shutil
import time
import uuid
from contextlib import suppress
from pathlib import Path

from adapters.inspect import CONFIG, WEIGHTS, AdapterFacts, UnservableAdapter, inspect
from adapters.manifest import BaseIdentity, Evaluation, Lineage, Manifest, Reference
from gateway.core.refs import NAME_PATTERN, valid_name
from gateway.store.versions import VersionRow, Versions

MANIFEST = "manifest.json"
STALE_SCRATCH_S = 3600.0


class Registry:
    """Adapter versions under one blob root, numbered by one store."""

    def __init__(self, root: Path, versions: Versions, *, base: BaseIdentity, max_rank: int) -> None:
        self.root = root
        self._versions = versions
        self._base = base
        self._max_rank = max_rank

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
    ) -> tuple[VersionRow, bool]:
        """Add the adapter in `folder` as the next version of `name`; return it with whether it is new.

        What training left in the folder's own `manifest.json` (lineage, evaluation, reference) is kept
        unless it is given here.

        Raises:
            UnservableAdapter: the name or the folder can't be served; the message says why.
            OSError: the blob can't be written.
            StoreUnavailable: the version can't be numbered.
        """
        if not valid_name(name):
            raise UnservableAdapter(
                f"{name!r} can't name an adapter: names match {NAME_PATTERN}, and 'base' is taken"
            )
        facts = inspect(folder, max_rank=self._max_rank)
        digest = digest_of(folder)
        made = _own_manifest(folder, digest)
        self._check_base(facts, made)
        self._store_blob(folder, digest)
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
        numbered = self._versions.add(name, digest, manifest.model_dump(mode="json"), actor=actor, why=why)
        if not self.path(
            digest
        ).is_dir():  # removed as that of a retired version, before this one was numbered
            self._store_blob(folder, digest)
        return numbered

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
                f"{CONFIG} names the base {facts.base_name!r}, and this fleet serves {self._base.name!r}"
            )

    def _store_blob(self, folder: Path, digest: str) -> None:
        place = self.path(digest)
        self._sweep()
        if self.verify(digest):
            return
        scratch = place.with_name(f".tmp-{uuid.uuid4().hex}")
        scratch.mkdir(parents=True)
        try:
            for part in (CONFIG, WEIGHTS):
                shutil.copyfile(folder / part, scratch / part)
                _sync(scratch / part)
                (scratch / part).chmod(0o444)
            if digest_of(scratch) != digest:
                raise UnservableAdapter(
                    f"{folder} changed while it was read; try again when nothing writes to it"
                )
            _sync(scratch)
            try:
                scratch.rename(place)
            except OSError:
                if not place.is_dir():
                    raise
                self._mend(scratch, place, digest)
            _sync(place.parent)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _mend(self, scratch: Path, place: Path, digest: str) -> None:
        """Put whole files in the place of damaged ones, each in one step: an engine may be reading them."""
        if self.verify(digest):  # somebody else has added the same content meanwhile
            return
        for part in (CONFIG, WEIGHTS):
            (scratch / part).replace(place / part)
        _sync(place)

    def _sweep(self) -> None:
        horizon = time.time() - STALE_SCRATCH_S
        for scratch in (self.root / "blobs").glob(".tmp-*"):
            with suppress(FileNotFoundError):  # its owner finished meanwhile
                if scratch.stat().st_mtime < horizon:
                    shutil.rmtree(scratch, ignore_errors=True)


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
    try:
        made = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
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
