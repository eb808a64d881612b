"""Bring the adapter that a source names onto this machine, as a folder."""

import json
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.progress import Progress, silent
from adapters.sources.layout import ANSWER, FILES, TOTAL, WANTED
from adapters.sources.names import Source, SourceRefused, parse
from adapters.sources.policy import SourcePolicy

POLL_S = 0.1
_log = logging.getLogger("turnout.sources")


@dataclass(frozen=True, slots=True)
class Fetched:
    """An adapter's folder, and where it came from as it may be stored."""

    folder: Path
    source: str


class Sources:
    """Opens sources by a policy. `root` is the registry's; what is fetched lies there until it was added."""

    def __init__(
        self, root: Path, policy: SourcePolicy, *, environment: Mapping[str, str] | None = None
    ) -> None:
        self._incoming = root / "incoming"
        self._policy = policy
        self._environment = environment
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End every fetch under way; their callers get SourceRefused."""
        self._stopping.set()

    @contextmanager
    def open(self, text: str, *, progress: Progress = silent) -> Iterator[Fetched]:
        """Yield the adapter that `text` names in a folder; what was fetched is gone after the block.

        Blocks for as long as the fetch takes, at most the policy's time.

        Raises:
            SourceRefused: it can't be had or may not be read; the message says why and what to do.
            OSError: there is no room for it.
        """
        source = parse(text)
        self._policy.require_allowed(source)
        if source.kind == "path":
            path = Path(source.text)
            if path.is_dir():
                for name in WANTED:
                    self._policy.require_within(path / name)
                yield Fetched(path, source.public)
                return
            self._require_tar(path)
        scratch = self._incoming / uuid.uuid4().hex
        scratch.mkdir(parents=True)
        try:
            yield self._fetch(source, scratch, progress)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _require_tar(self, path: Path) -> None:
        if not path.is_file():
            raise SourceRefused(
                f"{path} is not a folder on the gateway's machine, nor a tar; name what PEFT's "
                "save_pretrained wrote"
            )
        if path.stat().st_size > self._policy.max_bytes:
            raise SourceRefused(
                f"{path} is larger than the limit of {self._policy.max_bytes} bytes "
                "(registry.max_source_bytes)"
            )

    def _fetch(self, source: Source, scratch: Path, progress: Progress) -> Fetched:
        request = {
            "source": source.text,
            "scratch": str(scratch),
            "max_bytes": self._policy.max_bytes,
            "max_files": self._policy.max_files,
            "private": self._policy.private_addresses,
        }
        with subprocess.Popen(
            # -P: a folder named `adapters` in the working directory is not this package.
            [sys.executable, "-P", "-m", "adapters.sources.child"],
            stdin=subprocess.PIPE,
            bufsize=0,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self._child_environment(),
            start_new_session=True,
        ) as process:
            try:
                # On stdin, since other users can see a command line and the source may hold a password.
                assert process.stdin is not None  # noqa: S101 - it was asked for
                process.stdin.write(json.dumps(request).encode() + b"\n")
                self._watch(process, source, scratch, progress)
            except BrokenPipeError:
                process.wait()
            finally:
                process.kill()
        return self._answer(process, source, scratch)

    def _child_environment(self) -> dict[str, str]:
        environment = dict(os.environ if self._environment is None else self._environment)
        # The limits are ours to keep, so downloads take the plain way.
        return environment | {
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        }

    def _watch(
        self, process: subprocess.Popen[bytes], source: Source, scratch: Path, progress: Progress
    ) -> None:
        deadline = time.monotonic() + self._policy.timeout_s
        while True:
            try:
                process.wait(POLL_S)
            except subprocess.TimeoutExpired:
                progress("fetching", _bytes_in(scratch), _total(scratch))
            else:
                return
            if self._stopping.is_set():
                raise SourceRefused("the gateway is stopping; add the adapter again when it is back")
            if time.monotonic() > deadline:
                raise SourceRefused(
                    f"{source.public} did not arrive within {self._policy.timeout_s:g} s "
                    "(registry.fetch_timeout_s); nothing was kept"
                )

    def _answer(self, process: subprocess.Popen[bytes], source: Source, scratch: Path) -> Fetched:
        try:
            answer = json.loads((scratch / ANSWER).read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            _log.error("the process that read %s ended with code %s", source.public, process.returncode)
            raise SourceRefused(f"reading {source.public} ended unexpectedly; try again") from error
        if "errno" in answer:
            raise OSError(answer["errno"], os.strerror(answer["errno"]))
        if "refused" in answer:
            if "unforeseen" in answer:
                _log.warning("%s could not be read: %s", source.public, answer["unforeseen"])
            raise SourceRefused(answer["refused"])
        return Fetched(scratch / FILES, answer["source"])


def _bytes_in(scratch: Path) -> int:
    total = 0
    for path in (scratch / "archive", *scratch.glob(f"{FILES}/**/*")):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # renamed by the library meanwhile
            continue
    return total


def _total(scratch: Path) -> int | None:
    try:
        return int((scratch / TOTAL).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
