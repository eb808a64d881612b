"""A bucket in a folder, an agent's cache over it, and a bucket that fails on purpose."""

import errno
import threading
from dataclasses import dataclass, field
from pathlib import Path

from adapters.bucket import Bucket, BucketError
from adapters.registry import digest_of
from gateway.agent.cache import Answer, Cache
from gateway.agent.folder import BlobFolder
from gateway.agent.marks import Marks
from tests.adapters.folders import make_adapter


class Faulty(Bucket):
    """A bucket that breaks where a test wants: after so many blocks, or by changing what it gives."""

    fails_after: int | None = None
    spoils = False
    given = 0
    asked = 0
    gate: threading.Event | None = None

    def _block(self, digest: str, part: str, begin: int, end: int) -> bytes:
        if self.gate is not None:
            assert self.gate.wait(20)
        if self.fails_after is not None and self.given >= self.fails_after:
            raise BucketError(errno.EIO, "the bucket broke")
        self.given += 1
        block = super()._block(digest, part, begin, end)
        return bytes(len(block)) if self.spoils else block

    def sizes(self, digest: str) -> dict[str, int]:
        self.asked += 1
        return super().sizes(digest)


@dataclass
class Place:
    """One machine with an agent, and the bucket that it takes blobs from."""

    folder: Path
    max_bytes: int = 10**9
    incarnation: str | None = "1.0"
    now: float = 1_000_000.0
    bucket: Faulty = field(init=False)
    blobs: BlobFolder = field(init=False)
    cache: Cache = field(init=False)

    def __post_init__(self) -> None:
        self.bucket = Faulty(str(self.folder / "bucket"))
        self.start()

    @property
    def root(self) -> Path:
        """The engine's adapter_root."""
        return self.folder / "machine"

    def start(self) -> None:
        """Start the agent, again if need be."""
        self.blobs = BlobFolder(self.root)
        self.blobs.open()
        self.cache = Cache(
            self.blobs,
            Marks(self.root),
            self.bucket,
            max_bytes=self.max_bytes,
            incarnation=lambda: self.incarnation,
            wall=lambda: self.now,
            clock=lambda: self.now,
        )

    def publish(self, seed: int) -> str:
        """Make an adapter, put it into the bucket, and return its digest in hexadecimal."""
        source = make_adapter(self.folder / f"source-{seed}", seed=seed)
        digest = digest_of(source)
        Bucket(str(self.folder / "bucket")).put(source, digest)
        return digest.removeprefix("sha256:")

    def settled(self, name: str, incarnation: str = "1.0") -> Answer:
        """Ask for a blob, wait until the agent has done what it can, and ask again."""
        self.cache.ensure(name, incarnation)
        self.cache._threads.submit(_nothing).result(20)
        for _ in range(1000):
            with self.cache._lock:
                busy = bool(self.cache._working)
            if not busy:
                break
            threading.Event().wait(0.005)
        return self.cache.ensure(name, incarnation)

    def files(self, name: str) -> dict[str, bytes]:
        """What is in place of a blob."""
        place = self.root / "blobs" / name
        return {path.name: path.read_bytes() for path in place.iterdir()} if place.is_dir() else {}


def _nothing() -> None:
    """Work that is done at once."""
