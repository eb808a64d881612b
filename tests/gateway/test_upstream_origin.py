"""Addresses of engines."""

import pytest

from gateway.upstream.origin import Origin


@pytest.mark.parametrize(
    ("url", "origin", "authority"),
    [
        ("http://10.0.0.1:8000", Origin("10.0.0.1", 8000, tls=False), "10.0.0.1:8000"),
        ("http://engine", Origin("engine", 80, tls=False), "engine"),
        ("https://engine/base/", Origin("engine", 443, tls=True, prefix="/base"), "engine"),
        ("http://[::1]:9", Origin("::1", 9, tls=False), "[::1]:9"),
    ],
)
def test_origins(url: str, origin: Origin, authority: str) -> None:
    """An engine's address has scheme, host, port and a prefix."""
    assert Origin.parse(url) == origin
    assert origin.authority == authority


@pytest.mark.parametrize("url", ["ftp://x", "engine:8000", "http://", "http://x:99999"])
def test_wrong_origins(url: str) -> None:
    """What is no address of an engine is refused."""
    with pytest.raises(ValueError, match=r".+"):
        Origin.parse(url)
