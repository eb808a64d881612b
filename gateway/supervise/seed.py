"""The example adapters: added to the registry at the first start."""

from pathlib import Path

import adapters
from adapters.base import DEFAULT, BaseMissing, folder_of, identify
from adapters.inspect import CONFIG, UnservableAdapter
from adapters.manifest import BaseIdentity
from adapters.registry import Registry, digest_of
from gateway.configs import publish
from gateway.settings import Settings
from gateway.store.control import ControlStore

ACTOR = "serve"


def library() -> Path | None:
    """Return the folder of the example adapters; None where they are not installed (in a wheel)."""
    for place in adapters.__path__:
        folder = Path(place) / "library"
        if folder.is_dir():
            return folder
    return None


def identity_of(settings: Settings) -> BaseIdentity:
    """Return the identity of the base model; without a digest when it lies on the engines' machine only.

    Raises:
        BaseMissing: engines are to be started here and the base model is not prepared.
    """
    try:
        return identify(settings.base.model, settings.base.name)
    except BaseMissing:
        if settings.engine.urls:
            return BaseIdentity(name=settings.base.name)
        raise


def seed_examples(settings: Settings, store: ControlStore, base: BaseIdentity, *, folder: Path) -> list[str]:
    """Add every example adapter that is not there yet and return the names that are new.

    A name that somebody else's adapter has taken is left alone. The first version of a name gets its route
    from the store. Doing it again adds nothing.

    Raises:
        OSError, StoreUnavailable: an adapter can't be stored.
    """
    if settings.base.model != DEFAULT:
        return []
    registry = Registry(
        settings.blob_root,
        store.versions,
        base=base,
        max_rank=settings.engine.max_lora_rank,
        base_folder=folder_of(settings.base.model),
        publish=publish(settings),
    )
    added = []
    for example in sorted(folder.iterdir()):
        if not (example / CONFIG).is_file():
            continue
        known = {row.digest for row in store.versions.rows(example.name)}
        if known and digest_of(example) not in known:
            continue
        try:
            _, new = registry.add(
                example.name, example, actor=ACTOR, source=f"library/{example.name}", why="example adapter"
            )
        except UnservableAdapter:  # trained on another build of the base model
            continue
        if new:
            added.append(example.name)
    return added
