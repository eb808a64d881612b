"""Put a blob into the registry's bucket from a process of its own: `python -m adapters.publishing`.

The libraries of object stores stay out of the gateway that way, and what hangs can be ended. One request as
JSON on stdin; on stdout nothing, or why it failed.
"""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from adapters.bucket import Bucket, BucketError

Publish = Callable[[Path, str], None]


def publisher(url: str, *, timeout_s: float) -> Publish:
    """Return what stores a folder as the blob of a digest at `url`.

    It raises BucketError when that can't be done in time.
    """

    def publish(folder: Path, digest: str) -> None:
        request = json.dumps({"url": url, "folder": str(folder), "digest": digest})
        try:
            done = subprocess.run(
                # -P: a folder named `adapters` in the working directory is not this package.
                [sys.executable, "-P", "-m", "adapters.publishing"],
                input=request,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                env=dict(os.environ),
            )
        except subprocess.TimeoutExpired as error:
            text = f"the adapter could not be stored at {url} within {timeout_s:g} s"
            raise BucketError(errno.ETIMEDOUT, text) from error
        if done.returncode != 0:
            raise BucketError(errno.EIO, done.stdout.strip() or f"storing it at {url} ended unexpectedly")

    return publish


def main() -> int:
    """Store the blob that stdin names; exit code 0 when it is there."""
    request = json.loads(sys.stdin.readline())
    try:
        Bucket(request["url"]).put(Path(request["folder"]), request["digest"])
    except OSError as error:
        sys.stdout.write(f"{error.strerror or type(error).__name__}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
