"""An agent brings blobs whole or not at all, goes on where it stopped, and keeps what an engine may read."""

import errno
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters import bucket as bucket_module
from gateway.agent import cache as cache_module
from gateway.agent.cache import GRACE_S, Answer
from gateway.agent.marks import FILE
from tests.gateway.agent.places import Place


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A machine with an agent; blocks are small, so that a blob is many of them."""
    monkeypatch.setattr(bucket_module, "BLOCK_BYTES", 256)
    made = Place(tmp_path)
    yield made
    made.cache.close()


def test_a_blob_is_brought_and_read_only(place: Place) -> None:
    """The first asking begins it, and then it is whole: the bucket's bytes, which nobody can change."""
    name = place.publish(0)
    assert place.cache.ensure(name, "1.0").state == "fetching"
    assert place.settled(name) == Answer("whole")
    files = place.files(name)
    assert files == {
        path.name: path.read_bytes() for path in (place.folder / "bucket" / "blobs" / name).iterdir()
    }
    assert {path.stat().st_mode & 0o777 for path in (place.root / "blobs" / name).iterdir()} == {0o444}
    asked = place.bucket.asked
    assert place.cache.ensure(name, "1.0") == Answer("whole")
    assert place.bucket.asked == asked
    (row,) = place.cache.listing()
    assert (row["digest"], row["incarnation"]) == (f"sha256:{name}", "1.0")


def test_what_has_come_is_not_fetched_again(place: Place) -> None:
    """After a broken connection, or the end of the agent, it goes on with what it has."""
    name = place.publish(0)
    whole = len(b"".join((place.folder / "bucket" / "blobs" / name / p).read_bytes() for p in _PARTS))
    blocks = -(-whole // 256)
    place.bucket.fails_after = 2
    assert place.settled(name) == Answer("failed", reason="the bucket broke")
    assert 0 < place.blobs.gathered_bytes(name) < whole
    place.cache.close()
    place.bucket.fails_after = None
    place.start()
    assert place.settled(name) == Answer("whole")
    assert place.bucket.given <= blocks + 2
    assert not list((place.root / "incoming").iterdir())


def test_a_failure_is_not_tried_again_at_once(place: Place) -> None:
    """The pause grows; until it is over, askers hear why and the bucket is left alone."""
    name = "ab" * 32
    answer = place.settled(name)
    assert answer.state == "failed"
    assert "publish_to" in (answer.reason or "")
    asked = place.bucket.asked
    place.now += 1
    assert place.cache.ensure(name, "1.0") == answer
    assert place.bucket.asked == asked
    place.now += 2
    assert place.settled(name).state == "failed"
    assert place.bucket.asked == asked + 1


def test_other_bytes_are_not_taken(place: Place) -> None:
    """What does not have its digest is thrown away, and nothing of it lies where an engine reads."""
    name = place.publish(0)
    place.bucket.spoils = True
    answer = place.settled(name)
    assert (answer.state, "does not have its digest" in (answer.reason or "")) == ("failed", True)
    assert place.files(name) == {}
    place.bucket.spoils = False
    place.now += 10
    assert place.settled(name) == Answer("whole")


def test_a_damaged_blob_is_mended_in_place(place: Place) -> None:
    """A file that has changed is noticed at the next asking, and replaced whole."""
    name = place.publish(0)
    place.settled(name)
    weights = place.root / "blobs" / name / _PARTS[0]
    good = weights.read_bytes()
    weights.chmod(0o644)
    weights.write_bytes(good[:-1] + b"?")
    assert place.cache.ensure(name, "1.0").state == "fetching"
    assert place.settled(name) == Answer("whole")
    assert weights.read_bytes() == good


def test_askers_of_one_blob_share_its_fetch(place: Place) -> None:
    """However many ask, it is fetched once, and they hear how far it is."""
    name = place.publish(0)
    place.bucket.gate = threading.Event()
    states = {place.cache.ensure(name, "1.0").state for _ in range(20)}
    place.bucket.gate.set()
    assert states == {"fetching"}
    assert place.settled(name) == Answer("whole")
    assert place.bucket.asked == 1


def test_a_full_disk(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pieces are given back, who asks hears it, and it is tried again when there is room."""
    name = place.publish(0)

    def refuse(*_: object) -> bytes:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(place.bucket, "_block", refuse)
        answer = place.settled(name)
    assert answer == Answer("failed", reason="its machine's disk refuses: No space left on device")
    assert not list((place.root / "incoming").iterdir())
    place.now += 10
    assert place.settled(name) == Answer("whole")


def test_a_disk_without_room_is_not_filled(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched that would not fit beside what the disk needs to spare."""
    name = place.publish(0)
    monkeypatch.setattr(place.blobs, "free_bytes", lambda: cache_module.SPARE_BYTES)
    answer = place.settled(name)
    assert (answer.state, "no room" in (answer.reason or "")) == ("failed", True)
    assert place.bucket.given == 0


@pytest.fixture
def full(place: Place) -> tuple[Place, str, str]:
    """A cache that holds one blob, asked for by the incarnation 1.0 long ago; a second one would not fit."""
    first, second = place.publish(0), place.publish(1)
    place.settled(first)
    size = sum(place.blobs.sizes().values())
    place.cache.close()
    place.max_bytes = size + 10
    place.start()
    place.settled(first)
    place.now += GRACE_S + 60
    return place, first, second


@pytest.mark.parametrize(
    ("incarnation", "goes"),
    [
        ("2.0", True),  # that engine has ended
        ("1.0", False),  # it runs
        (None, False),  # nobody can say
    ],
)
def test_only_what_no_engine_reads_makes_room(
    full: tuple[Place, str, str], incarnation: str | None, goes: bool
) -> None:
    """A blob is kept until the engine process that was told of it has ended, whatever else is wanted."""
    place, first, second = full
    place.incarnation = incarnation
    answer = place.settled(second, "2.0")
    assert answer.state == ("whole" if goes else "failed")
    assert bool(place.files(first)) is not goes
    if not goes:
        assert "may still be read" in (answer.reason or "")


def test_what_was_asked_for_lately_stays(full: tuple[Place, str, str]) -> None:
    """Requests that began before an engine's end, and a load that crossed it, have an hour."""
    place, first, second = full
    place.now -= 120
    place.incarnation = "2.0"
    assert place.settled(second, "2.0").state == "failed"
    assert place.files(first)


def test_what_nobody_knows_of_stays_until_the_next_engine(full: tuple[Place, str, str]) -> None:
    """With its notes lost, an agent takes every blob for one that the present engine may read."""
    place, first, second = full
    place.cache.close()
    (place.root / FILE).write_text("{", encoding="utf-8")
    place.incarnation = "2.0"
    place.start()
    assert place.settled(second, "2.0").state == "failed"
    place.incarnation = "3.0"
    place.now += GRACE_S + 60
    assert place.settled(second, "3.0").state == "whole"
    assert not place.files(first)


def test_a_crash_on_the_way_out(full: tuple[Place, str, str]) -> None:
    """A blob that was being removed is never taken for a whole one, and the next start removes it."""
    place, first, _ = full
    gone = place.root / "blobs" / f".gone-{first}"
    (place.root / "blobs" / first).rename(gone)
    (gone / _PARTS[0]).unlink()
    place.cache.close()
    place.start()
    assert not gone.exists()
    assert place.cache.listing() == []


def test_abandoned_pieces_make_room(full: tuple[Place, str, str]) -> None:
    """Pieces of blobs that are not being fetched are the first to go."""
    place, first, second = full
    shutil.rmtree(place.root / "blobs" / first)
    pieces = place.root / "incoming" / ("cd" * 32)
    pieces.mkdir()
    (pieces / _PARTS[0]).write_bytes(bytes(1000))
    other = place.publish(2)
    place.settled(second, "1.0")
    place.settled(other, "1.0")
    assert not pieces.exists()


_PARTS = ("adapter_model.safetensors", "adapter_config.json")
