"""The server secret that keys are hashed with: where it lies, and how it is replaced.

A pepper is 32 random bytes in a file that only its owner reads: `pepper` in the state directory, made at the
first start, or the file that `auth.pepper_file` names, which every machine of a fleet has to have. Each key's
row says by a public id which pepper its hash was made with, so that a new pepper does not end old keys while
the one of before is still given.
"""

import hmac
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

PEPPER_BYTES = 32
_ID_CHARS = 8


def load_pepper(state_dir: Path) -> bytes:
    """Return the pepper of a state directory; the first call makes it.

    Raises:
        OSError: the file can't be read or made.
        ValueError: the file is not a pepper.
    """
    path = state_dir / "pepper"
    state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not path.exists():
        scratch = path.with_name(f".pepper-{os.getpid()}-{secrets.token_hex(4)}")
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(PEPPER_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)  # fails when another process was first, whose pepper then counts
        except FileExistsError:
            pass
        finally:
            scratch.unlink()
    return read_pepper(path)


def read_pepper(path: Path) -> bytes:
    """Return the pepper that a file holds: 32 bytes, or 64 hexadecimal digits.

    Raises:
        OSError: the file can't be read.
        ValueError: it holds something else.
    """
    held = path.read_bytes()
    if len(held) != PEPPER_BYTES:
        try:
            held = bytes.fromhex(held.decode("ascii").strip())
        except ValueError:  # also what is no ASCII
            held = b""
    if len(held) != PEPPER_BYTES:
        raise ValueError(
            f"{path} is damaged: a pepper is 32 bytes, or 64 hexadecimal digits; restore it, "
            "or remove it and make every key again"
        )
    return held


def id_of(pepper: bytes) -> str:
    """Return the public id of a pepper, which tells nothing of it."""
    return hmac.digest(pepper, b"pepper-id", "sha256").hex()[:_ID_CHARS]


@dataclass(frozen=True, slots=True)
class Peppers:
    """The pepper that new keys are made with, and those of before it, the latest first."""

    current: bytes = field(repr=False)
    former: tuple[bytes, ...] = field(default=(), repr=False)
    _by_id: dict[str, bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {id_of(one): one for one in (*self.former, self.current)})

    @classmethod
    def load(cls, state_dir: Path, file: Path | None = None, former: Sequence[Path] = ()) -> "Peppers":
        """Read them; only the state directory's own pepper is made when it is not there.

        Raises:
            OSError: a file can't be read or made.
            ValueError: a file is not a pepper.
        """
        current = load_pepper(state_dir) if file is None else read_pepper(file)
        return cls(current, tuple(read_pepper(path) for path in former))

    def of(self, pepper_id: str | None) -> bytes:
        """Return the pepper of a row. A row without an id is older than any second pepper.

        A pepper that is not given here gets another one's answer: no hash will fit, as for a wrong key.
        """
        if pepper_id is None:
            return self.former[-1] if self.former else self.current
        return self._by_id.get(pepper_id, self.current)

    def knows(self, pepper_id: str | None) -> bool:
        """Whether hashes of that pepper can be checked here."""
        return pepper_id is None or pepper_id in self._by_id
