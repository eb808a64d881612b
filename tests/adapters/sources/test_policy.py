"""What may be read is decided before anything is opened."""

from pathlib import Path

import pytest

from adapters.sources.names import SourceRefused, parse
from adapters.sources.policy import SourcePolicy, is_public

ADDRESSES = {
    "93.184.215.14": True,
    "2606:2800:21f:cb07::1": True,
    "127.0.0.1": False,
    "127.255.0.1": False,
    "0.0.0.0": False,  # noqa: S104 - an address to refuse
    "10.1.2.3": False,
    "172.16.0.1": False,
    "192.168.1.1": False,
    "100.64.0.1": False,
    "169.254.169.254": False,
    "224.0.0.1": False,
    "255.255.255.255": False,
    "::1": False,
    "::": False,
    "fe80::1": False,
    "fd00::1": False,
    "ff02::1": False,
    "::ffff:127.0.0.1": False,
    "::ffff:93.184.215.14": True,
    "2002:7f00:1::": False,
    "64:ff9b::7f00:1": False,
    "64:ff9b::5db8:d70e": True,
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses(address: str) -> None:
    """Loopback, private, link-local and multicast addresses are not the internet's, however written."""
    assert is_public(address) is ADDRESSES[address]


def test_paths_are_confined(tmp_path: Path) -> None:
    """Only what lies in a root may be read, with every link followed."""
    inside, outside = tmp_path / "in", tmp_path / "out"
    for folder in (inside / "a", outside / "b"):
        folder.mkdir(parents=True)
    (inside / "link").symlink_to(outside / "b")
    policy = SourcePolicy(roots=(inside,))
    policy.require_allowed(parse(str(inside / "a")))
    for path in (outside / "b", inside / "link", inside / ".." / "out" / "b", Path("/etc")):
        with pytest.raises(SourceRefused, match=r"registry\.source_roots"):
            policy.require_allowed(parse(str(path)))
    with pytest.raises(SourceRefused, match="relative path"):
        policy.require_allowed(parse("in/a"))


def test_what_is_switched_off() -> None:
    """Without roots no path may be read, with None any; a kind that is not listed is refused."""
    with pytest.raises(SourceRefused, match=r"\(no folder\)"):
        SourcePolicy(roots=()).require_allowed(parse("/srv/a"))
    SourcePolicy(roots=None).require_allowed(parse("/srv/a"))
    policy = SourcePolicy(remote=("s3",))
    policy.require_allowed(parse("s3://models/a"))
    for text in ("hf://org/repo", "https://example.com/a.tar", "gs://models/a"):
        with pytest.raises(SourceRefused, match="switched off"):
            policy.require_allowed(parse(text))
