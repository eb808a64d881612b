"""Make the example adapters again from nothing: `python -m training.examples [NAME …]`."""

import os
import shutil
import sys
import uuid
from pathlib import Path
from typing import Annotated

import typer

from adapters import base
from adapters.base import DEFAULT, identify
from adapters.manifest import Manifest
from adapters.packages import DownloadFailed
from adapters.prepare_base import PrepareFailed, prepare_default
from training.card import card
from training.job import Job, Origin, make
from training.progress import Progress
from training.recipes import RECIPES, Recipe

CARD = "README.md"
LIBRARY = Path(base.__file__).parent / "library"
app = typer.Typer(add_completion=False)


@app.command()
def examples(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Any of {', '.join(RECIPES)}; all by default.")
    ] = None,
    out: Annotated[Path, typer.Option(help="The folder that gets a folder for each adapter.")] = LIBRARY,
) -> None:
    """Train the example adapters by their recipes and write them, with manifest and card."""
    unknown = [name for name in names or () if name not in RECIPES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(RECIPES)}")
    progress = Progress()
    try:
        prepare_default(progress.step)
        for name in names or RECIPES:
            _replace(RECIPES[name], out, progress)
    except (ValueError, OSError, DownloadFailed, PrepareFailed) as error:
        typer.echo(f"turnout examples: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, ValueError) else 1) from error


def make_example(recipe: Recipe, folder: Path, progress: Progress) -> Manifest:
    """Train one example adapter into `folder` (which must not exist yet), with its card."""
    with progress.stage(f"Reading the rows of {recipe.name}"):
        rows = recipe.load()
    job = Job(
        name=recipe.name,
        examples=rows,
        model=DEFAULT,
        base=identify(DEFAULT, DEFAULT),
        origin=Origin(
            recipe=f"training.recipes:{recipe.name}",
            data_source=recipe.data_source,
            data_terms=recipe.data_terms,
            command=f"python -m training.examples {recipe.name}",
        ),
        config=recipe.config,
        shares=recipe.shares,
        instruction=recipe.instruction,
        metrics=recipe.metrics,
        shots=recipe.shots,
        max_answer_tokens=recipe.max_answer_tokens,
        probes=recipe.probes,
    )
    manifest = make(job, folder, progress)
    (folder / CARD).write_text(card(recipe, manifest), encoding="utf-8")
    return manifest


def _replace(recipe: Recipe, out: Path, progress: Progress) -> None:
    """Make an example beside its place and put it there; what was there stays until the new one is whole."""
    fresh, old, place = (
        out / f".tmp-new-{uuid.uuid4().hex}",
        out / f".tmp-old-{uuid.uuid4().hex}",
        out / recipe.name,
    )
    out.mkdir(parents=True, exist_ok=True)
    try:
        manifest = make_example(recipe, fresh, progress)
        if place.exists():
            place.rename(old)
        fresh.rename(place)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
    typer.echo(f"{recipe.name}: {place} ({manifest.size_bytes / 1e6:.1f} MB)")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    sys.exit(app())
