"""`turnout probe FOLDER`: choose and record the probes of an adapter that is there already.

For adapters that were trained elsewhere, before they are added: what they say on the quantized base model is
computed by PEFT here, and written into the folder's `manifest.json`, which `turnout adapters add` keeps.
"""

import logging
import os
import signal
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from adapters.base import DEFAULT, folder_of, identify
from adapters.inspect import inspect
from adapters.manifest import BaseIdentity, Manifest, Reference
from adapters.prepare_base import prepare
from adapters.registry import MANIFEST, digest_of
from training import options as o
from training.config import MAX_RANK
from training.data.reading import read
from training.data.rows import Example
from training.exits import exit_codes
from training.progress import Progress
from training.publishing.probes import NEUTRAL, candidates, record

app = typer.Typer(add_completion=False)


@app.command(name="probe")
def probe(
    folder: Annotated[Path, typer.Argument(help="The adapter's folder; its manifest.json is written.")],
    *,
    predecessor: Annotated[
        Path | None, typer.Option(help="The folder of the version that it will replace, to tell it from.")
    ] = None,
    instruction: o.Instruction = None,
    text: o.Probes = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Rows whose prompts may be stored as probes, cut to 8 tokens. Nothing personal."),
    ] = None,
    base: o.Base = DEFAULT,
    base_name: o.BaseName = None,
    max_rank: o.MaxRank = MAX_RANK,
    as_json: o.AsJson = False,
) -> None:
    """Choose the probes that tell an adapter from its base and its predecessor, and record its answers."""
    with exit_codes("turnout probe"):
        rows = read(data, None) if data else []
        progress = Progress()
        prepare(base, progress.step)
        identity = identify(base, base_name or base.rstrip("/").rsplit("/", 1)[-1])
        manifest = manifest_of(folder, identity, max_rank=max_rank)
        with progress.stage("Choosing and recording the probes"):
            reference = recorded(
                folder,
                base,
                texts=text or NEUTRAL,
                rows=rows,
                instruction=instruction,
                predecessor=predecessor,
            )
        write(folder, manifest.model_copy(update={"reference": reference}))
        typer.echo(reference.model_dump_json() if as_json else told(reference))


def recorded(
    folder: Path,
    base: str,
    *,
    texts: Sequence[str],
    rows: Sequence[Example] = (),
    instruction: str | None = None,
    predecessor: Path | None = None,
) -> Reference:
    """Load the base model with the adapter in `folder` and return its reference.

    Raises:
        OSError: the adapter or the base model can't be read.
        ValueError: the adapter does not fit the base model, or there are too few texts.
    """
    # bitsandbytes warns of an optional kernel package at import.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from peft import PeftModel  # noqa: PLC0415 - seconds; a reader's errors come first

    from training.fitting.model import load_base  # noqa: PLC0415
    from training.fitting.template import Template  # noqa: PLC0415

    loaded = load_base(str(folder_of(base) or base))
    template = Template(loaded.tokenizer, loaded.stop_ids, instruction=instruction)
    try:
        model = PeftModel.from_pretrained(loaded.model, str(folder))
    except RuntimeError as error:
        raise ValueError(f"{folder} does not fit the base model: {error}") from error
    prompts = candidates(template, texts, rows)
    digest = identify(base, base).digest
    return record(model, template, prompts, predecessor=predecessor, base_digest=digest)


def manifest_of(folder: Path, base: BaseIdentity, *, max_rank: int) -> Manifest:
    """Return the folder's own manifest, or a new one when it has none.

    Raises:
        ValueError: the folder is no adapter that can be served, or its manifest speaks of other weights.
        OSError: it can't be read.
    """
    facts = inspect(folder, max_rank=max_rank)
    digest = digest_of(folder)
    path = folder / MANIFEST
    if path.is_file():
        made = Manifest.model_validate_json(path.read_text(encoding="utf-8"))
        if made.digest != digest:
            raise ValueError(f"{path} describes other weights than the folder holds; remove it")
        return made
    return Manifest(
        name=folder.name,
        digest=digest,
        base=base,
        rank=facts.rank,
        alpha=facts.alpha,
        target_modules=facts.target_modules,
        dtype=facts.dtype,
        size_bytes=facts.size_bytes,
        source=str(folder),
        created_at=round(time.time(), 3),
    )


def write(folder: Path, manifest: Manifest) -> None:
    """Put the manifest beside the weights, in one step."""
    scratch = folder / f".tmp-{uuid.uuid4().hex}"
    try:
        scratch.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
        scratch.replace(folder / MANIFEST)
    finally:
        scratch.unlink(missing_ok=True)


def told(reference: Reference) -> str:
    """Return what was recorded, for people."""
    apart = reference.separation
    lines = [f"{len(reference.probes)} probes; noise {reference.noise} nats"]
    if apart is not None:
        lines.append(f"apart from the base model: {apart.base:g} times the noise")
        if apart.predecessor is not None:
            lines.append(f"apart from the predecessor: {apart.predecessor:g} times the noise")
    return "\n".join(lines)


if __name__ == "__main__":
    # Asked to end, it cleans up as after Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="turnout probe")
