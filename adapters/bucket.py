"""A registry's blobs in a bucket, or in any place that fsspec reaches: `<url>/blobs/<sha256>/<file>`.

Gateways put blobs there when adapters are added, and agents beside engines take them from there. Objects are
content-addressed and written once; whoever takes one verifies its digest, so a bucket needs no locking. The
config is written last: where it is, the weights are too.
"""

import errno
import shutil
import uuid
from pathlib import Path
from typing import Any

from adapters.peft_config import CONFIG
from adapters.sources.layout import WEIGHTS
from adapters.sources.stores import NEEDS, opened

PARTS = (WEIGHTS, CONFIG)
BLOCK_BYTES = 8 * 1024 * 1024


class BucketError(OSError):
    """The bucket can't be read or written; the message says why, without anybody's credentials."""


class NotInBucket(BucketError):
    """There is no blob of that digest, or not all of it yet."""


class Bucket:
    """The blobs under one URL. Credentials come from the environment, where the provider's own tools look."""

    def __init__(self, url: str, *, filesystem: Any = None) -> None:
        """Nothing is opened yet.

        Raises:
            BucketError: the URL is none, or the package for it is not installed.
        """
        scheme, _, rest = url.partition("://")
        self.url = url.rstrip("/")
        self._root = (rest or str(Path(scheme).absolute())).rstrip("/")
        self._scheme = scheme if rest else "file"
        self._files = filesystem or _filesystem(self._scheme)

    def holds(self, digest: str, sizes: dict[str, int]) -> bool:
        """Whether a whole blob of these sizes is there.

        Raises:
            BucketError: it can't be told.
        """
        try:
            return self.sizes(digest) == sizes
        except NotInBucket:
            return False

    def sizes(self, digest: str) -> dict[str, int]:
        """Return the bytes of each of a blob's files.

        Raises:
            NotInBucket: it is not there.
            BucketError: it can't be told.
        """
        found = {}
        for part in PARTS:
            try:
                found[part] = int(self._files.info(self._key(digest, part))["size"])
            except FileNotFoundError as error:
                raise NotInBucket(errno.ENOENT, f"{self.url} has no blob {digest[:19]}…") from error
            except Exception as error:
                raise _strange(self.url, "read", error) from error
        return found

    def put(self, folder: Path, digest: str) -> None:
        """Store a blob, unless it is there.

        Raises:
            BucketError: it can't be stored.
        """
        if self.holds(digest, {part: (folder / part).stat().st_size for part in PARTS}):
            return
        try:
            if self._scheme == "file":
                Path(self._key(digest, "")).mkdir(parents=True, exist_ok=True)
            for part in PARTS:
                self._put(folder / part, self._key(digest, part))
        except Exception as error:
            raise _strange(self.url, "written", error) from error

    def get(self, digest: str, part: str, target: Path, *, size: int) -> None:
        """Append to `target` what it lacks of a blob's file of so many bytes.

        Raises:
            BucketError: it can't be read. What has come stays for the next call.
            OSError: `target` can't be written.
        """
        with target.open("ab") as file:
            while (done := file.tell()) < size:
                file.write(self._block(digest, part, done, min(done + BLOCK_BYTES, size)))
                file.flush()

    def _block(self, digest: str, part: str, begin: int, end: int) -> bytes:
        try:
            block = bytes(self._files.cat_file(self._key(digest, part), start=begin, end=end))
        except FileNotFoundError as error:
            raise NotInBucket(errno.ENOENT, f"{self.url} has no blob {digest[:19]}…") from error
        except Exception as error:  # each provider's library has a tree of errors of its own
            raise _strange(self.url, "read", error) from error
        if len(block) != end - begin:
            raise BucketError(errno.EIO, f"{self.url} gave less of {digest[:19]}… than it has")
        return block

    def _put(self, source: Path, key: str) -> None:
        if self._scheme != "file":
            self._files.put_file(str(source), key)
            return
        # A shared folder has no atomic put of its own.
        beside = Path(f"{key}.{uuid.uuid4().hex}")
        try:
            shutil.copyfile(source, beside)
            beside.replace(key)
        finally:
            beside.unlink(missing_ok=True)

    def _key(self, digest: str, part: str) -> str:
        return f"{self._root}/blobs/{digest.removeprefix('sha256:')}/{part}"


def _filesystem(scheme: str) -> Any:
    try:
        return opened(scheme)
    except ImportError as error:
        package = NEEDS.get(scheme, "fsspec")
        extra = f"turnout[{scheme}]" if scheme in NEEDS else "fsspec"
        text = f"{scheme}:// needs the package {package}: pip install '{extra}'"
        raise BucketError(errno.ENOENT, text) from error
    except ValueError as error:
        raise BucketError(errno.EINVAL, f"{scheme}:// is nothing that fsspec knows") from error


def _strange(url: str, done: str, error: Exception) -> BucketError:
    """Return the failure of a library, whose own message may hold a signed address."""
    number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
    hint = ": the environment names no account" if "Credentials" in type(error).__name__ else ""
    return BucketError(number, f"{url} can't be {done} ({type(error).__name__}{hint})")
