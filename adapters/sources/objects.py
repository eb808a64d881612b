"""Fetch an adapter from a bucket, `s3://` or `gs://`, through fsspec: a folder of objects, or a tar.

Credentials come from where the provider's own tools look for them (`AWS_ACCESS_KEY_ID`, `AWS_PROFILE`,
`AWS_ENDPOINT_URL`; `GOOGLE_APPLICATION_CREDENTIALS`; the machine's role).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from adapters.peft_config import CONFIG
from adapters.sources.archives import BLOCK_BYTES
from adapters.sources.https import too_large
from adapters.sources.layout import WANTED, WEIGHTS
from adapters.sources.names import Source, SourceRefused
from adapters.sources.stores import NEEDS, opened

_ACCOUNT = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS, or the machine's service account",
}


def fetch(
    source: Source,
    folder: Path,
    archive: Path,
    *,
    max_bytes: int,
    expect: Callable[[int], None],
    filesystem: Any = None,
) -> bool:
    """Write the adapter's files into `folder`, or one object into `archive`; whether it was the latter.

    Raises:
        SourceRefused: there is none, it is too large, or the gateway's credentials do not reach it.
        OSError: a file can't be written.
    """
    store = filesystem or _filesystem(source)
    try:
        found = store.info(_key(source))
        if found["type"] != "directory":
            _require_size(source, int(found["size"] or 0), max_bytes)
            expect(int(found["size"] or 0))
            _save(store, source, _key(source), archive, max_bytes)
            return True
        sizes = _sizes(store, source)
        _require_size(source, sum(sizes.values()), max_bytes)
        expect(sum(sizes.values()))
        for name in sizes:
            _save(store, source, f"{_key(source)}/{name}", folder / name, max_bytes)
    except FileNotFoundError as error:
        raise SourceRefused(f"there is nothing at {source.public}: look at the bucket and the key") from error
    except PermissionError as error:
        raise SourceRefused(
            f"the gateway may not read {source.public}; its environment must name an account that may: "
            f"{_ACCOUNT[source.kind]}"
        ) from error
    return False


def _filesystem(source: Source) -> Any:
    try:
        return opened(source.kind)
    except ImportError as error:
        package = NEEDS[source.kind]
        raise SourceRefused(
            f"{source.kind}:// needs the package {package} on the gateway's machine: "
            f"pip install 'turnout[{source.kind}]'"
        ) from error


def _key(source: Source) -> str:
    return f"{source.where}/{source.rest}"


def _sizes(store: Any, source: Source) -> dict[str, int]:
    """Return the sizes of the adapter's objects in a folder. No listing: there may be a million others."""
    sizes = {}
    for name in WANTED:
        try:
            found = store.info(f"{_key(source)}/{name}")
        except FileNotFoundError:
            continue
        if found["type"] == "file":
            sizes[name] = int(found["size"])
    for name in (CONFIG, WEIGHTS):
        if name not in sizes:
            raise SourceRefused(
                f"{source.public} has no {name}; name the folder with what PEFT's save_pretrained wrote, "
                "or a tar"
            )
    return sizes


def _save(store: Any, source: Source, key: str, target: Path, max_bytes: int) -> None:
    done = 0
    with (
        store.open(key, "rb", block_size=8 * BLOCK_BYTES, cache_type="readahead") as reader,
        target.open("xb") as file,
    ):
        while block := reader.read(BLOCK_BYTES):
            done += len(block)
            _require_size(source, done, max_bytes)
            file.write(block)


def _require_size(source: Source, size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise SourceRefused(too_large(source, max_bytes))
