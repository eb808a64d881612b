"""The file systems of buckets, opened by fsspec in one way for reading sources and for publishing blobs."""

import os
from typing import Any

NEEDS = {"s3": "s3fs", "gs": "gcsfs"}


def opened(scheme: str) -> Any:
    """Return fsspec's file system for a scheme; what it lists is never remembered.

    Raises:
        ImportError: the package for it is not installed (`NEEDS`).
        ValueError: fsspec knows no such scheme.
    """
    import fsspec  # noqa: PLC0415 - an extra

    if scheme == "gs":
        # gcsfs asks over gRPC of which kind a bucket is, and waits a minute where only https gets through.
        # Objects are read and written alike in every kind.
        os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    return fsspec.filesystem(scheme, skip_instance_cache=True, use_listings_cache=False)
