"""The faults of `make bench-attestation`: each is injected into a real engine and must be caught."""

import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from adapters.base import DEFAULT
from adapters.inspect import CONFIG, WEIGHTS
from adapters.manifest import BaseIdentity
from adapters.registry import Registry
from gateway.controller.blobs import Blobs
from loadtests.attestation.adapters import LIBRARY, ZEROED_LAYERS, manifest, root, versions
from loadtests.attestation.bed import ROWS, Bed, keep, kept, row_of

OTHER_BASE = "a replica on another base model"
ON_DISK = "weights changed on disk"
STALE = "stale in-place reload"
NEAR, RETRAINED = "sentiment@2", "retrained@2"


def _wrong_weights() -> list[tuple[str, str, Path]]:
    """Return (kind of fault, the version's name, the folder that is registered under it)."""
    near, retrained = versions()["sentiment@1"][0], versions()["retrained@1"][0]
    return [
        ("adapter not applied", NEAR, root() / "not-applied"),
        ("another adapter's weights", NEAR, LIBRARY / "sarcasm"),
        ("another adapter's weights", RETRAINED, LIBRARY / "entities"),
        ("the predecessor's weights, retrained with another seed", RETRAINED, retrained),
        ("the predecessor's weights, eight steps away", NEAR, near),
        *(("one layer zeroed", NEAR, root() / f"zeroed-{layer}") for layer in ZEROED_LAYERS),
    ]


async def inject_all(bed: Bed, folder: Path, console: Console) -> None:
    """Prove the honest versions once, as the fleet's first replica; then inject what was not injected yet."""
    if any(row["quantization"] == bed.quantization and row["kind"] == STALE for row in kept(ROWS)):
        return
    first = bed.prober("fleet", replica="replica-0")
    for name, (source, _) in versions().items():
        await bed.register(name, source)
        proof = await bed.prove(first, name)
        console.print(f"  {bed.quantization}: {name} {proof.fault or 'is proved'}, {proof.weak or 'strong'}")
        keep(ROWS, row_of(bed, "first proof", name, proof))
    for number, (kind, name, source) in enumerate(_wrong_weights()):
        await bed.register(name, source)
        alone = await bed.prove(bed.prober(f"alone-{number}", replica="replica-0"), name)
        beside = await bed.prove(bed.prober("fleet", replica="replica-1"), name)
        _tell(bed, kind, name, beside.fault, console)
        keep(ROWS, row_of(bed, kind, name, beside, by_training=alone.fault, source=source.name))
    for name in (NEAR, RETRAINED):
        await _stale(bed, folder, name, console)
    await _on_disk(bed, folder, console)


async def inject_base(bed: Bed, console: Console) -> None:
    """Prove versions on an engine whose base model is another one under the same name."""
    for number, name in enumerate((NEAR, RETRAINED)):
        await bed.register(name, versions()[name][0])
        alone = await bed.prove(bed.prober(f"base-{number}", replica="replica-0"), name)
        beside = await bed.prove(bed.prober("fleet", replica="replica-1"), name)
        _tell(bed, OTHER_BASE, name, beside.fault, console)
        keep(ROWS, row_of(bed, OTHER_BASE, name, beside, by_training=alone.fault))


async def _stale(bed: Bed, folder: Path, name: str, console: Console) -> None:
    """Traffic on the predecessor's weights, then the version's own at the same path, loaded in place."""
    source, before = versions()[name]
    place = folder / f"stale-{name}"
    place.mkdir()
    _copy(versions()[before or ""][0], place)
    await bed.register(name, place)
    await bed.traffic(name)
    _copy(source, place)
    await bed.reload_in_place(name, place)
    proof = await bed.prove(bed.prober("fleet", replica="replica-1"), name)
    _tell(bed, STALE, name, proof.fault, console)
    alone = await bed.prove(bed.prober(f"stale-{name}", replica="replica-0"), name)
    keep(ROWS, row_of(bed, STALE, name, proof, by_training=alone.fault))


async def _on_disk(bed: Bed, folder: Path, console: Console) -> None:
    """Change one byte of an engine's own copy of the files."""
    source, _ = versions()[NEAR]
    digest = manifest(source).digest
    registry = Registry(folder / "registry", bed.versions(), base=BaseIdentity(name=DEFAULT), max_rank=16)
    for place in (registry.path(digest), folder / "mirror" / "blobs" / registry.path(digest).name):
        place.mkdir(parents=True)
        _copy(source, place)
    weights = place / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    fault = await Blobs(registry, mirrors={"/engine": folder / "mirror"}).fault(digest, "/engine")
    _tell(bed, ON_DISK, NEAR, fault, console)
    row: dict[str, Any] = {"quantization": bed.quantization, "kind": ON_DISK, "version": NEAR, "fault": fault}
    keep(ROWS, {**row, "by_training": fault, "figures": {}})


def _copy(source: Path, place: Path) -> None:
    for part in (CONFIG, WEIGHTS):
        shutil.copy(source / part, place / part)


def _tell(bed: Bed, kind: str, name: str, fault: str | None, console: Console) -> None:
    console.print(f"  {bed.quantization}: {kind} ({name}): {fault or '[red]NOT CAUGHT[/red]'}")
