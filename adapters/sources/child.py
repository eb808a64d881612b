"""The process that reads one source: `python -m adapters.sources.child`, one request as JSON on stdin.

It is a process of its own so that what strangers packed is taken apart outside the gateway, heavy client
libraries stay out of it, and it can be ended when it takes too long. It ends by itself when stdin closes:
then whoever asked is gone. It answers in files: `total` (bytes expected) and `answer.json`.
"""

import contextlib
import errno
import json
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

from adapters.sources import archives, https, hub, names, objects
from adapters.sources.layout import ANSWER, FILES, TOTAL
from adapters.sources.names import Source, SourceRefused

_HEADROOM_BYTES = 64 * 1024 * 1024
_DISK = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})
_NICE = 5


def main() -> int:
    """Read the source that stdin names; exit code 0 with an answer."""
    request = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.nice(_NICE)
    scratch = Path(request["scratch"])
    # Whatever a library does, no file of this process grows beyond the limit.
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    wanted = request["max_bytes"] + _HEADROOM_BYTES
    resource.setrlimit(resource.RLIMIT_FSIZE, (wanted if hard < 0 else min(wanted, hard), hard))
    answer = _answer(request, scratch)
    (scratch / f"{ANSWER}.part").write_text(json.dumps(answer), encoding="utf-8")
    (scratch / f"{ANSWER}.part").replace(scratch / ANSWER)
    return 0


def _answer(request: dict[str, Any], scratch: Path) -> dict[str, Any]:
    source = names.parse(request["source"])
    try:
        return {"source": read(source, scratch, request)}
    except SourceRefused as error:
        return {"refused": str(error)}
    except OSError as error:
        if error.errno in _DISK:
            return {"errno": error.errno}
        if error.errno == errno.EFBIG:
            return {"refused": https.too_large(source, request["max_bytes"])}
        return {"refused": _unforeseen(source, error)}
    except Exception as error:  # noqa: BLE001 - the outermost handler of a process; the parent logs and counts
        return {"refused": _unforeseen(source, error), "unforeseen": type(error).__name__}


def read(source: Source, scratch: Path, request: dict[str, Any]) -> str:
    """Bring the adapter's files into `scratch/adapter` and return the source as it may be stored.

    Raises:
        SourceRefused: it can't be had; the message says why.
        OSError: a file can't be written.
    """
    folder, archive, max_bytes = scratch / FILES, scratch / "archive", request["max_bytes"]
    folder.mkdir()

    def expect(total: int) -> None:
        (scratch / TOTAL).write_text(str(total), encoding="utf-8")

    public, packed = source.public, True
    match source.kind:
        case "path":
            archive = Path(source.text)
        case "https":
            https.fetch(source, archive, max_bytes=max_bytes, private=request["private"], expect=expect)
        case "hf":
            public, packed = hub.fetch(source, folder, max_bytes=max_bytes, expect=expect), False
        case _:
            packed = objects.fetch(source, folder, archive, max_bytes=max_bytes, expect=expect)
    if packed:
        archives.extract(archive, folder, work=scratch, max_bytes=max_bytes, max_files=request["max_files"])
    return public


def _unforeseen(source: Source, error: Exception) -> str:
    # What the message of a library's error holds is not known: perhaps a signed address.
    return f"{source.public} could not be read ({type(error).__name__}{_hint(error)})"


def _hint(error: Exception) -> str:
    if type(error).__name__ in {"NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"}:
        return ": the gateway's environment names no account"
    return ""


def _end_with_parent() -> None:
    with contextlib.suppress(OSError, ValueError):
        while sys.stdin.read(4096):
            pass
    os._exit(3)


if __name__ == "__main__":
    sys.exit(main())
