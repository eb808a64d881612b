"""The secret that keys are hashed with."""

import stat
from pathlib import Path

import pytest

from gateway.peppers import Peppers, id_of, load_pepper, read_pepper

ONE, TWO, THREE = (bytes([number]) * 32 for number in (1, 2, 3))


def test_the_pepper_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    """The first call makes the file, later ones read it; a damaged one is not silently replaced."""
    made = load_pepper(tmp_path / "state")
    assert load_pepper(tmp_path / "state") == made
    file = tmp_path / "state" / "pepper"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.write_bytes(b"short")
    with pytest.raises(ValueError, match="damaged"):
        load_pepper(tmp_path / "state")


@pytest.mark.parametrize(
    ("held", "pepper"),
    [
        (ONE, ONE),
        (ONE.hex().encode(), ONE),
        (ONE.hex().upper().encode() + b"\n", ONE),
        (b"", None),
        (b"x" * 31, None),
        (b"g" * 64, None),
        (ONE.hex()[:-2].encode(), None),
        ("é".encode() * 40, None),
    ],
)
def test_what_a_file_may_hold(tmp_path: Path, held: bytes, pepper: bytes | None) -> None:
    """32 bytes, or 64 hexadecimal digits as a secret's text often comes; nothing else."""
    file = tmp_path / "secret"
    file.write_bytes(held)
    if pepper is not None:
        assert read_pepper(file) == pepper
        return
    with pytest.raises(ValueError, match="damaged"):
        read_pepper(file)


def test_a_file_that_is_named_is_never_made(tmp_path: Path) -> None:
    """A secret that every machine shares is not made anew where it is missing."""
    with pytest.raises(FileNotFoundError):
        Peppers.load(tmp_path, tmp_path / "none")
    assert not (tmp_path / "pepper").exists()


def test_rows_find_their_pepper() -> None:
    """Each row names its pepper; one without a name is older than all, and one of elsewhere fits nothing."""
    peppers = Peppers(ONE, (TWO, THREE))
    assert [peppers.of(id_of(pepper)) for pepper in (ONE, TWO, THREE)] == [ONE, TWO, THREE]
    assert peppers.of(None) == THREE
    assert Peppers(ONE).of(None) == ONE
    assert (peppers.knows(id_of(TWO)), peppers.knows(None), Peppers(ONE).knows(id_of(TWO))) == (
        True,
        True,
        False,
    )
    assert Peppers(ONE).of(id_of(TWO)) == ONE


def test_a_pepper_shows_nowhere() -> None:
    """Neither its id nor what is printed of it tells anything of it."""
    peppers = Peppers(ONE, (TWO,))
    assert ONE.hex() not in repr(peppers) + id_of(ONE)
    assert repr(ONE) not in repr(peppers)
