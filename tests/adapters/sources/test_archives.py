"""Nothing but an adapter's own files comes out of an archive, whatever it claims."""

import gzip
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from adapters.inspect import CONFIG, WEIGHTS
from adapters.sources.archives import extract
from adapters.sources.names import SourceRefused
from tests.adapters.sources.tars import PACK, Entry, adapter_entries, entry, tar_of

MAX_BYTES = 1024 * 1024
HUGE = 64 * 1024 * 1024
Write = Callable[[Path], bytes]


def take(content: bytes, folder: Path, *, max_bytes: int = MAX_BYTES, max_files: int = 50) -> Path:
    """Extract an archive and return the folder that holds what came out."""
    work, target = folder / "work", folder / "out"
    work.mkdir(exist_ok=True)
    target.mkdir(exist_ok=True)
    (folder / "archive").write_bytes(content)
    extract(folder / "archive", target, work=work, max_bytes=max_bytes, max_files=max_files)
    return target


@pytest.mark.parametrize("style", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize("pack", PACK)
def test_good_archives(tmp_path: Path, pack: str, style: int) -> None:
    """Plain or compressed, flat or in one folder beside other files: the adapter's files come out alone."""
    entries = [
        *adapter_entries(tmp_path / "source", under="./checkpoint-100/"),
        entry("./checkpoint-100/README.md", b"hello"),
        entry("./checkpoint-100/" + "n" * 90, b"a long name"),
        entry("./checkpoint-100/empty", kind=tarfile.DIRTYPE),
    ]
    target = take(PACK[pack](tar_of(entries, style=style)), tmp_path)
    assert sorted(path.name for path in target.iterdir()) == [CONFIG, WEIGHTS]
    for name in (CONFIG, WEIGHTS):
        assert (target / name).read_bytes() == (tmp_path / "source" / name).read_bytes()


def beside(*entries: Entry) -> Write:
    """Return what makes an archive of an adapter and these members."""
    return lambda folder: tar_of([*adapter_entries(folder), *entries])


def alone(*entries: Entry) -> Write:
    """Return what makes an archive of these members."""
    return lambda _: tar_of(entries)


def of_bytes(content: bytes) -> Write:
    """Return what makes a file of these bytes."""
    return lambda _: content


def negative(folder: Path) -> bytes:
    """Return an archive with a member that says it is smaller than nothing."""
    content = bytearray(tar_of(adapter_entries(folder)))
    content[124:136] = b"\xff" * 11 + b"\x00"  # base 256: -256
    content[148:156] = b"        "
    content[148:156] = b"%06o\0 " % sum(content[:512])
    return bytes(content)


def claims_gigabytes(_: Path) -> bytes:
    """Return an archive whose extended header claims 4 GiB."""
    member = tarfile.TarInfo("pax")
    member.type, member.size = tarfile.XHDTYPE, 2**32
    return member.tobuf(tarfile.GNU_FORMAT) + bytes(4096)


def sparse(folder: Path) -> bytes:
    """Return an archive with a sparse file, that says it has a terabyte and holds nothing of it."""
    member = tarfile.TarInfo("holes")
    member.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.name": "holes",
        "GNU.sparse.size": str(2**40),
        "GNU.sparse.map": "0,0",
    }
    return tar_of([*adapter_entries(folder), (member, b"")])


REFUSED: dict[str, tuple[Write, str]] = {
    "nothing": (of_bytes(b""), "no whole tar archive"),
    "no archive": (of_bytes(b"\x80\x04hello" * 200), "no whole tar archive"),
    "text": (of_bytes(b"<html>not found</html>" * 40), "no whole tar archive"),
    "a gzip of text": (of_bytes(gzip.compress(b"hello" * 300)), "no whole tar archive"),
    "a gzip that is cut": (
        lambda at: gzip.compress(tar_of(adapter_entries(at)))[:-30],
        "truncated or corrupt",
    ),
    "a gzip that is changed": (
        lambda at: gzip.compress(tar_of(adapter_entries(at)))[:-8] + b"12345678",
        "truncated or corrupt",
    ),
    "a bzip2 of nonsense": (of_bytes(b"BZh9" + b"nonsense" * 20), "truncated or corrupt"),
    "an xz of nonsense": (of_bytes(b"\xfd7zXZ\x00" + b"nonsense" * 20), "truncated or corrupt"),
    "a zstd of nonsense": (of_bytes(b"\x28\xb5\x2f\xfd" + b"\xff" * 200), "truncated or corrupt"),
    "a tar that is cut": (lambda at: tar_of(adapter_entries(at))[:700], "no whole tar archive"),
    "no adapter": (alone(entry("readme", b"x")), f"has no {CONFIG}"),
    "no weights": (alone(entry(CONFIG, b"{}")), f"has no {WEIGHTS}"),
    "a pickle": (
        alone(entry(CONFIG, b"{}"), entry("adapter_model.bin", b"x")),
        "is a pickle, which is never opened",
    ),
    "an absolute path": (beside(entry("/etc/passwd", b"x")), "'/etc/passwd', a path that leads out of it"),
    "a path that climbs": (beside(entry("a/../../x", b"x")), "a path that leads out of it"),
    "a path of Windows": (beside(entry("a\\..\\x", b"x")), "a path that leads out of it"),
    "a symbolic link": (beside(entry("x", kind=tarfile.SYMTYPE, link="/etc/passwd")), "a symbolic link"),
    "weights as a link": (
        alone(entry(CONFIG, b"{}"), entry(WEIGHTS, kind=tarfile.SYMTYPE, link="/etc/passwd")),
        "a symbolic link",
    ),
    "a hard link": (beside(entry("x", kind=tarfile.LNKTYPE, link=CONFIG)), "a hard link"),
    "a device": (beside(entry("x", kind=tarfile.CHRTYPE)), "a device"),
    "a block device": (beside(entry("x", kind=tarfile.BLKTYPE)), "a device"),
    "a pipe": (beside(entry("x", kind=tarfile.FIFOTYPE)), "a pipe"),
    "a sparse file": (sparse, "neither file nor folder"),
    "an entry of an unknown kind": (beside(entry("x", kind=b"Z")), "neither file nor folder"),
    "the weights twice": (beside(entry(WEIGHTS, b"x")), f"holds {WEIGHTS} twice"),
    "two adapters": (
        lambda at: tar_of([*adapter_entries(at / "1", under="a/"), *adapter_entries(at / "2", under="b/")]),
        "twice",
    ),
    "files apart": (
        alone(entry(f"a/{CONFIG}", b"{}"), entry(f"b/{WEIGHTS}", b"x")),
        "in different folders",
    ),
    "too many entries": (beside(*(entry(f"f{n}") for n in range(60))), "more than 50 entries"),
    "weights too large": (
        alone(entry(CONFIG, b"{}"), entry(WEIGHTS, bytes(MAX_BYTES + 1))),
        "larger than the limit of 1048576 bytes",
    ),
    "a large gzip": (lambda _: gzip.compress(os.urandom(HUGE // 3)), "limit of 1048576 bytes"),
    "a bomb": (lambda _: gzip.compress(bytes(HUGE)), "grows more than 200-fold"),
    "a size below nothing": (negative, "an entry of an impossible size"),
    "a header of gigabytes": (claims_gigabytes, "no whole tar archive"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_archives(tmp_path: Path, case: str) -> None:
    """Each is refused with the reason, and nothing but the adapter's own names was written."""
    write, words = REFUSED[case]
    with pytest.raises(SourceRefused) as caught:
        take(write(tmp_path / "source"), tmp_path)
    assert words in str(caught.value)
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {CONFIG, WEIGHTS}
    assert {path.name for path in tmp_path.iterdir()} <= {"out", "work", "archive", "source"}


def test_a_bomb_under_a_wide_limit(tmp_path: Path) -> None:
    """Where the limit would let it pass, growing two hundredfold is refused before the disk fills."""
    with pytest.raises(SourceRefused, match="grows more than 200-fold"):
        take(gzip.compress(bytes(HUGE)), tmp_path, max_bytes=2**40)
    assert (tmp_path / "work" / "plain.tar").stat().st_size < HUGE


ONE_FOLDER = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
    max_examples=100,
)


def tidy(folder: Path) -> None:
    """Remove what an extraction left."""
    for part in ("out", "work"):
        for path in (folder / part).glob("*"):
            path.unlink()


@ONE_FOLDER
@given(content=st.binary(max_size=3000))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    """Whatever the bytes, they are an adapter or refused."""
    tidy(tmp_path)
    with pytest.raises(SourceRefused):
        take(content, tmp_path)


@ONE_FOLDER
@given(data=st.data())
def test_any_change_of_an_archive(tmp_path: Path, data: st.DataObject) -> None:
    """An archive with some bytes changed gives an adapter's files or a refusal, and writes nowhere else."""
    tidy(tmp_path)
    content = bytearray(tar_of(adapter_entries(tmp_path / "source", under="a/")))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        target = take(bytes(content), tmp_path)
    except SourceRefused:
        return
    assert {path.name for path in target.iterdir()} == {CONFIG, WEIGHTS}


@ONE_FOLDER
@given(name=st.text(min_size=1, max_size=30))
def test_any_name(tmp_path: Path, name: str) -> None:
    """Whatever a member is called, nothing is written under that name."""
    tidy(tmp_path)
    try:
        content = tar_of([*adapter_entries(tmp_path / "source"), entry(name, b"x")])
    except (UnicodeEncodeError, ValueError):
        return
    try:
        take(content, tmp_path)
    except SourceRefused:
        return
    assert {path.name for path in tmp_path.iterdir()} == {"out", "work", "archive", "source"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {CONFIG, WEIGHTS}


def test_zstd_without_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A .tar.zst where the package is missing says what to install."""
    content = PACK["tar.zst"](tar_of(adapter_entries(tmp_path / "source")))
    monkeypatch.setitem(__import__("sys").modules, "zstandard", None)
    with pytest.raises(SourceRefused, match=r"pip install 'turnout\[zstd\]'"):
        take(content, tmp_path)


def test_a_full_disk_is_no_fault_of_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails is the disk's own error, not a refusal."""
    real = Path.open

    def full(path: Path, mode: str = "r", **more: object) -> io.IOBase:
        if "x" in mode:
            raise OSError(28, "No space left on device")
        return real(path, mode, **more)  # type: ignore[call-overload,no-any-return]

    content = gzip.compress(tar_of(adapter_entries(tmp_path / "source")))
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        take(content, tmp_path)
