"""Make the example adapters again from nothing: `python -m training.examples [NAME …]`."""

import csv
import hashlib
import shutil
import uuid
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from adapters import base
from adapters.base import DEFAULT, cache_dir, identify
from adapters.manifest import EmbeddingSample, Lineage, Manifest
from adapters.packages import DownloadFailed
from adapters.prepare_base import PrepareFailed, prepare_default
from adapters.registry import MANIFEST
from training.data.embedding import chosen, embedded, packed
from training.data.rows import DataError, Example, Row
from training.data.splits import Splits
from training.evaluation.curve import draw, table
from training.examples.apart import apart
from training.examples.card import card
from training.examples.curves import learning_curve
from training.examples.recipes import RECIPES, Recipe
from training.job import AS_THEY_ARE, Job, Maker, Origin, make
from training.progress import Progress
from training.publishing.card import CARD
from training.publishing.lineage import code_version, fingerprint
from training.publishing.reference import recorded, told, write

CURVE_POINTS = 5
LIBRARY = Path(base.__file__).parent / "library"
app = typer.Typer(add_completion=False)


@app.command()
def examples(
    names: Annotated[
        list[str] | None, typer.Argument(help=f"Any of {', '.join(RECIPES)}; all by default.")
    ] = None,
    *,
    out: Annotated[Path, typer.Option(help="The folder that gets a folder for each adapter.")] = LIBRARY,
    cards: Annotated[
        bool, typer.Option("--cards-only", help="Write the cards again from the manifests, without training.")
    ] = False,
    probes: Annotated[
        bool, typer.Option("--probes-only", help="Choose and record the probes again, without training.")
    ] = False,
    judged: Annotated[
        bool,
        typer.Option("--judge-only", help="Judge again on the recipe's held-out rows, without training."),
    ] = False,
    curves: Annotated[
        Path | None,
        typer.Option(
            "--curve", help="Train on parts of the rows and write NAME.png and NAME.md to this folder."
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Train nothing; write rows of one recipe to this CSV file.")
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="How many rows --export writes, evenly spaced.")] = 200,
) -> None:
    """Train the example adapters by their recipes and write them, with manifest and card."""
    unknown = [name for name in names or () if name not in RECIPES]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(RECIPES)}")
    if export is not None and len(names or ()) != 1:
        raise typer.BadParameter("--export takes the rows of one recipe: name it")
    progress = Progress()
    try:
        if export is not None:
            _export(RECIPES[(names or [""])[0]], export, rows)
            return
        if not cards:
            prepare_default(progress.step)
        for name in names or RECIPES:
            recipe, folder = RECIPES[name], out / name
            if cards:
                _rewrite_card(recipe, folder)
            elif probes:
                _record_again(recipe, folder)
            elif judged or curves:
                _judge_more(recipe, folder, curves, progress)
            else:
                _replace(recipe, out, progress)
    except (ValueError, OSError, DownloadFailed, PrepareFailed) as error:
        typer.echo(f"turnout examples: {error}", err=True)
        raise typer.Exit(2 if isinstance(error, ValueError) else 1) from error


def make_example(recipe: Recipe, folder: Path, progress: Progress) -> Manifest:
    """Train one example adapter into `folder` (which must not exist yet), with its card."""
    with progress.stage(f"Reading the rows of {recipe.name}"):
        rows = recipe.load()
    job = _job(recipe, rows)
    splits = apart(rows, job.shares)
    job = replace(job, embedding_sample=_sample(job, splits))
    manifest = make(job, folder, progress, splits=splits)
    (folder / CARD).write_text(card(recipe, manifest), encoding="utf-8")
    return manifest


def _job(recipe: Recipe, rows: list[Example]) -> Job:
    return Job(
        name=recipe.name,
        examples=rows,
        model=DEFAULT,
        base=identify(DEFAULT, DEFAULT),
        origin=Origin(
            recipe=f"training.examples.recipes:{recipe.name}",
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


def _sample(job: Job, splits: Splits[Row]) -> EmbeddingSample:
    """Return what the prompts of training mean, for reports of coverage and for curation."""
    seed = job.config.seed
    return packed(embedded(chosen(splits.train, seed=seed)), seed=seed)


def _export(recipe: Recipe, path: Path, count: int) -> None:
    """Write evenly spaced rows as a CSV file that `turnout train` reads; the instruction is left out."""
    found = recipe.load()
    step = max(1, len(found) // count)
    chosen = found[::step][:count]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("prompt", "completion"))
        writer.writerows((row.messages[-1]["content"], row.completion) for row in chosen)
    typer.echo(f"{path}: {len(chosen)} rows of {recipe.data_source}")
    typer.echo(f"Terms: {recipe.data_terms}")


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


def _record_again(recipe: Recipe, folder: Path) -> None:
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    reference = recorded(folder, DEFAULT, texts=recipe.probes, instruction=recipe.instruction)
    write(folder, manifest.model_copy(update={"reference": reference}))
    typer.echo(f"{recipe.name}: {told(reference)}")


def _judge_again(recipe: Recipe, folder: Path, progress: Progress) -> None:
    """Judge an adapter as its recipe now asks, on rows that it was not trained on; its weights stay.

    Raises:
        DataError: the recipe's rows or their split are not those that it was trained with.
    """
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    job = _job(recipe, recipe.load())
    splits = apart(job.examples, job.shares)
    made = manifest.lineage
    if made is None or made.data_fingerprint != fingerprint(job.examples) or not _same_split(recipe, made):
        raise DataError(
            f"{folder} was trained on other rows than the recipe {recipe.name} would hold back; make it again"
        )
    with TemporaryDirectory() as scratch:
        shutil.copytree(folder, Path(scratch) / "adapter")
        found = Maker(job, splits, Path(scratch), progress).judge()
    news = {"rows": splits.counts(), "embedding_sample": _sample(job, splits)}
    lineage = made.model_copy(update=news)
    manifest = manifest.model_copy(update={"evaluation": found, "lineage": lineage})
    write(folder, manifest)
    _rewrite_card(recipe, folder)


def _judge_more(recipe: Recipe, folder: Path, curves: Path | None, progress: Progress) -> None:
    if curves is None:
        _judge_again(recipe, folder, progress)
    else:
        _draw_curve(recipe, folder, curves, progress)


def _draw_curve(recipe: Recipe, folder: Path, place: Path, progress: Progress) -> None:
    """Write the learning curve of an example as a picture and a table.

    Its points are kept in the user's cache until it is whole, so that a curve that was killed goes on.
    """
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    job = _job(recipe, recipe.load())
    code = hashlib.sha256(f"{code_version()} {manifest.digest}".encode()).hexdigest()[:16]
    kept = cache_dir() / "curves" / f"{recipe.name}-{code}"
    found = learning_curve(job, manifest, points=CURVE_POINTS, progress=progress, kept=kept)
    place.mkdir(parents=True, exist_ok=True)
    draw(found, place / f"{recipe.name}.png")
    (place / f"{recipe.name}.md").write_text(table(found) + "\n", encoding="utf-8")
    shutil.rmtree(kept, ignore_errors=True)
    typer.echo(table(found))


def _same_split(recipe: Recipe, made: Lineage) -> bool:
    """Whether the rows that training took are those that the recipe takes; more may be judged by than were.

    Versions that were made before splits were recorded are taken at the number of their rows.
    """
    recorded = made.config.get("split")
    if recorded is None:
        return made.rows["train"] == recipe.shares.max_train
    ours = {**asdict(recipe.shares), **AS_THEY_ARE}
    return all(ours[name] == recorded.get(name) for name in ours if name != "max_test")


def _rewrite_card(recipe: Recipe, folder: Path) -> None:
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_text(encoding="utf-8"))
    (folder / CARD).write_text(card(recipe, manifest), encoding="utf-8")
    typer.echo(f"{recipe.name}: {folder / CARD}")
