"""Fetch an adapter from a model hub, `hf://org/repo[@revision]`, through huggingface_hub.

`HF_ENDPOINT` names another hub, `HF_TOKEN` (or the token that `hf auth login` stored) who asks. The commit
that the revision stood for is kept as part of the source, so that it says which bytes were meant.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

from adapters.peft_config import CONFIG
from adapters.sources.https import too_large
from adapters.sources.layout import MANIFEST, WEIGHTS
from adapters.sources.names import Source, SourceRefused


def fetch(source: Source, folder: Path, *, max_bytes: int, expect: Callable[[int], None]) -> str:
    """Write the adapter's files into `folder` and return the source with its commit.

    Raises:
        SourceRefused: there is none, it is too large, gated or offline.
        OSError: a file can't be written.
    """
    try:
        import huggingface_hub as hub  # noqa: PLC0415 - an extra
        from huggingface_hub import errors  # noqa: PLC0415
    except ImportError as error:
        raise SourceRefused(
            "hf:// needs the package huggingface_hub on the gateway's machine: pip install 'turnout[hf]'"
        ) from error
    try:
        commit, sizes = _look(hub, errors, source)
        if sum(sizes.values()) > max_bytes:
            raise SourceRefused(too_large(source, max_bytes))
        expect(sum(sizes.values()))
        for name in sizes:
            hub.hf_hub_download(source.where, name, revision=commit, local_dir=folder)
    except errors.OfflineModeIsEnabled as error:
        raise SourceRefused(
            "the gateway runs with HF_HUB_OFFLINE set: unset it, or add the adapter from a folder"
        ) from error
    except errors.GatedRepoError as error:
        raise SourceRefused(
            f"{source.public} is gated: accept its terms on the hub, and set HF_TOKEN in the gateway's "
            "environment"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceRefused(
            f"there is no {source.public}, or it is private: set HF_TOKEN in the gateway's environment to "
            "a token "
            "that may read it"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceRefused(f"the repository of {source.public} has no such revision") from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        raise SourceRefused(f"{source.public}: the hub answered HTTP {status}; try again") from error
    finally:
        shutil.rmtree(folder / ".cache", ignore_errors=True)  # the library's notes on what it has fetched
    return f"hf://{source.where}@{commit}"


def _look(hub: object, errors: object, source: Source) -> tuple[str, dict[str, int]]:
    """Return the commit of a revision, and the sizes of the adapter's files at it."""
    commit = ""
    sizes = {}
    for name in (CONFIG, WEIGHTS, MANIFEST):
        revision = commit or source.rest or None
        address = hub.hf_hub_url(source.where, name, revision=revision)  # type: ignore[attr-defined]
        try:
            found = hub.get_hf_file_metadata(address)  # type: ignore[attr-defined]
        except errors.EntryNotFoundError as error:  # type: ignore[attr-defined]
            if name == MANIFEST:
                continue
            raise SourceRefused(
                f"{source.public} has no {name}: it is no LoRA adapter, or was saved as a pickle "
                "(safe_serialization=True saves it otherwise)"
            ) from error
        if not found.commit_hash or found.size is None:
            raise SourceRefused(
                f"{source.public}: the hub did not say which commit and how many bytes {name} has"
            )
        commit = found.commit_hash
        sizes[name] = int(found.size)
    return commit, sizes
