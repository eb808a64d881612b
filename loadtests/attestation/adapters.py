"""Adapters for `make bench-attestation`: honest versions with references, and the faults made from them.

Two pairs of neighbours are trained from the example recipe `sentiment`: one retrained from nothing with
another seed, and one that only went on for eight small steps, which is as near as versions get. They are kept
under the cache folder, since training them takes minutes.

    python -m loadtests.attestation.adapters     makes what is missing
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.base import DEFAULT, cache_dir, folder_of
from adapters.inspect import CONFIG, WEIGHTS
from adapters.manifest import Manifest
from adapters.registry import MANIFEST
from loadtests.common.machine import ROOT

LIBRARY = ROOT / "adapters" / "library"
ZEROED_LAYERS = (2, 15, 29)
OTHER_BASE_LAYER = 15


@dataclass(frozen=True)
class Trained:
    """One neighbour: how it is trained, and the folder of the version before it."""

    name: str
    rows: int
    seed: int
    learning_rate: float
    goes_on_from: Path | None
    before: Path | None


def root() -> Path:
    """Return the folder of everything that is made."""
    return cache_dir() / "bench-attestation"


def versions() -> dict[str, tuple[Path, str | None]]:
    """Return the honest versions: name → (folder, the version before it)."""
    return {
        "sentiment@1": (LIBRARY / "sentiment", None),
        "sentiment@2": (root() / "near", "sentiment@1"),
        "retrained@1": (root() / "seed7", None),
        "retrained@2": (root() / "seed8", "retrained@1"),
        "sarcasm@1": (LIBRARY / "sarcasm", None),
        "entities@1": (LIBRARY / "entities", None),
    }


def prepare() -> None:
    """Make what is missing, in a process of its own, whose memory is free again before an engine starts.

    Raises:
        subprocess.CalledProcessError: something could not be made; it has said why.
    """
    if not all((folder / MANIFEST).is_file() for folder, _ in versions().values()):
        subprocess.run([sys.executable, "-m", "loadtests.attestation.adapters"], check=True, cwd=ROOT)
    for layer in ZEROED_LAYERS:
        changed(versions()["sentiment@2"][0], root() / f"zeroed-{layer}", layer=layer)
    changed(versions()["sentiment@2"][0], root() / "not-applied", layer=None)
    other_base()


def changed(source: Path, folder: Path, *, layer: int | None) -> Path:
    """Copy an adapter with one layer's LoRA (None: every layer's) set to do nothing."""
    from safetensors.torch import load_file, save_file  # noqa: PLC0415 - torch takes seconds
    from torch import zeros_like  # noqa: PLC0415

    part = "lora_B" if layer is None else f"layers.{layer}."
    if not (folder / WEIGHTS).is_file():
        weights = {
            name: zeros_like(tensor) if part in name and "lora_B" in name else tensor
            for name, tensor in load_file(source / WEIGHTS).items()
        }
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / CONFIG, folder / CONFIG)
        save_file(weights, folder / f".tmp-{WEIGHTS}", metadata={"format": "pt"})
        (folder / f".tmp-{WEIGHTS}").rename(folder / WEIGHTS)
    return folder


def other_base() -> Path:
    """Copy the base model with the feed-forward part of one of its 30 layers switched off."""
    from safetensors.torch import load_file, save_file  # noqa: PLC0415
    from torch import zeros_like  # noqa: PLC0415

    source, folder = folder_of(DEFAULT), root() / "other-base"
    if source is None or (folder / "config.json").is_file():
        return folder
    scratch = folder.with_name(".tmp-other-base")
    shutil.rmtree(scratch, ignore_errors=True)
    shutil.copytree(source, scratch)
    part = f"layers.{OTHER_BASE_LAYER}.mlp.down_proj"
    for path in scratch.glob("*.safetensors"):
        weights = load_file(path)
        kept = {name: zeros_like(tensor) if part in name else tensor for name, tensor in weights.items()}
        path.unlink()
        save_file(kept, path, metadata={"format": "pt"})
    scratch.rename(folder)
    return folder


def _neighbours() -> list[Trained]:
    library = LIBRARY / "sentiment"
    return [
        Trained("seed7", 240, 7, 5e-4, None, None),
        Trained("seed8", 240, 8, 5e-4, None, root() / "seed7"),
        Trained("near", 64, 1, 1e-4, library, library),
    ]


def _train(wanted: Trained) -> None:
    """Train one neighbour and record its reference as training does."""
    from training.config import TrainConfig  # noqa: PLC0415
    from training.data.splits import split  # noqa: PLC0415
    from training.examples.recipes import SENTIMENT  # noqa: PLC0415
    from training.fitting.fit import build_trainer, fit  # noqa: PLC0415
    from training.fitting.model import add_lora, load_base, round_to, save_adapter  # noqa: PLC0415
    from training.fitting.template import Template  # noqa: PLC0415

    folder = root() / wanted.name
    scratch = root() / f".tmp-{wanted.name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    base = load_base(str(folder_of(DEFAULT)))
    template = Template(base.tokenizer, base.stop_ids, instruction=SENTIMENT.instruction)
    shares = replace(SENTIMENT.shares, max_train=wanted.rows)
    rows = [template.encode(example) for example in split(SENTIMENT.load(), shares).train]
    config = TrainConfig(
        epochs=1,
        learning_rate=wanted.learning_rate,
        batch_size=8,
        seed=wanted.seed,
        parent=wanted.goes_on_from,
    )
    model = add_lora(base.model, config)
    scratch_trainer = scratch / "trainer"
    fit(
        build_trainer(
            model,
            rows,
            [],
            config,
            template=template,
            scratch=scratch_trainer,
            on_step=lambda *_: None,
            checkpoints=False,
        )
    )
    shutil.rmtree(scratch_trainer, ignore_errors=True)
    round_to(model, "bfloat16")
    save_adapter(model, scratch, base_name=DEFAULT, dtype="bfloat16")
    _reference(scratch, wanted.before)
    scratch.rename(folder)


def _reference(folder: Path, before: Path | None) -> None:
    from adapters.base import identify  # noqa: PLC0415
    from training.examples.recipes import SENTIMENT  # noqa: PLC0415
    from training.publishing.reference import manifest_of, recorded, write  # noqa: PLC0415

    manifest = manifest_of(folder, identify(DEFAULT, DEFAULT), max_rank=16)
    reference = recorded(
        folder, DEFAULT, texts=SENTIMENT.probes, instruction=SENTIMENT.instruction, predecessor=before
    )
    write(folder, manifest.model_copy(update={"reference": reference}))


def manifest(folder: Path) -> Manifest:
    """Return what stands in a folder's manifest."""
    return Manifest.model_validate(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))


def main() -> int:
    """Make the neighbours that are missing."""
    for wanted in _neighbours():
        if not (root() / wanted.name / MANIFEST).is_file():
            print(f"training {wanted.name}: {wanted.rows} rows, seed {wanted.seed}", flush=True)
            _train(wanted)
            apart = manifest(root() / wanted.name).reference
            print(
                f"  {apart.separation if apart else None}, noise {apart.noise if apart else None}", flush=True
            )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
