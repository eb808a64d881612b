"""Data sets of a hub, and those saved on the disk by `datasets`: the rows of one split, with their numbers.

Nothing is asked of the network where HF_HUB_OFFLINE is set; no code of a data set is ever run.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.data.formats import Limits, Raw
from training.data.rows import DataError

SCHEME = "hf://"
_PARTS = re.compile(r"(?P<name>[^@#?]+)(?:@(?P<revision>[^#?]+))?(?:#(?P<config>[^:]*)(?::(?P<split>.+))?)?")
_SAVED = ("dataset_info.json", "dataset_dict.json")
_NO_CONFIG = "Config name is missing."


@dataclass(frozen=True, slots=True)
class HubSource:
    """A data set: its id or folder, its revision, its configuration and the split that is wanted."""

    name: str
    revision: str | None = None
    config: str | None = None
    split: str | None = None

    @classmethod
    def parse(cls, source: str) -> "HubSource":
        """Read `[hf://]ORG/NAME[@REVISION][#CONFIG[:SPLIT]]`.

        Raises:
            DataError: it is not of that form.
        """
        found = _PARTS.fullmatch(source.removeprefix(SCHEME))
        if found is None or not found["name"]:
            raise DataError(f"{source} is not of the form hf://ORG/NAME[@REVISION][#CONFIG[:SPLIT]]")
        return cls(found["name"], found["revision"], found["config"] or None, found["split"])


def hub_rows(source: str, limits: Limits) -> Iterator[Raw]:
    """Yield the rows of one split, numbered from 1: the one that is named, else `train`, else the only one.

    Raises:
        DataError: there is no such data set or split, or it is beyond the limits.
        OSError: the hub can't be reached.
    """
    wanted = HubSource(source) if Path(source).is_dir() else HubSource.parse(source)
    dataset = _split(_loaded(wanted, source), wanted, source)
    if len(dataset) > limits.rows:
        raise DataError(f"{source} has {len(dataset):,} rows, above the limit of {limits.rows:,}")
    size = int(dataset.data.nbytes)
    if size > limits.total_bytes:
        raise DataError(
            f"{source} has {size / 2**20:,.0f} MiB, above the limit of {limits.total_bytes / 2**20:,.0f}: "
            "rows are held in memory. Take a split such as train[:10%], or raise --max-mib"
        )
    yield from enumerate(dataset, start=1)


def _loaded(wanted: HubSource, source: str) -> Any:
    import datasets  # noqa: PLC0415 - seconds, and only for such a source

    datasets.disable_progress_bars()
    folder = Path(wanted.name)
    try:
        if any((folder / name).is_file() for name in _SAVED):
            return datasets.load_from_disk(str(folder))
        split = wanted.split if wanted.split and "[" in wanted.split else None
        return datasets.load_dataset(wanted.name, wanted.config, split=split, revision=wanted.revision)
    except (FileNotFoundError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise DataError(f"{source} can't be read as a data set: {_why(error)}") from error
    except ConnectionError as error:
        raise ConnectionError(
            f"{source} is nothing on this machine, and can't be asked of the hub: {_why(error)}. With "
            "HF_HUB_OFFLINE set, only what was fetched before can be read"
        ) from error


def _why(error: Exception) -> str:
    """Return what the library says, with what to do: its first lines name what there is to choose from."""
    first, *others = str(error).splitlines() or [type(error).__name__]
    if first == _NO_CONFIG:
        return " ".join([first, *others[:1], "Say which: hf://ORG/NAME#CONFIG"])
    if " is a gated dataset " in first:
        return f"{first} Its terms are accepted there, and a token is read from HF_TOKEN"
    return first


def _split(loaded: Any, wanted: HubSource, source: str) -> Any:
    if not isinstance(loaded, dict):
        return loaded
    names = list(loaded)
    if wanted.split is not None:
        if wanted.split not in loaded:
            raise DataError(f"{source} has no split {wanted.split!r}; it has {', '.join(names)}")
        return loaded[wanted.split]
    if "train" in loaded:
        return loaded["train"]
    if len(names) == 1:
        return loaded[names[0]]
    raise DataError(f"{source} has the splits {', '.join(names)}; say which: {source}#:{names[0]}")
