"""Where a request came from, and that nobody chooses it for himself."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.addresses import MAX_HOPS, client_address

PROXIES = [ip_network("10.0.0.0/8"), ip_network("2001:db8::/32")]

CASES = [
    # nobody in between: what a client forwards is its own invention
    ("192.0.2.7", [], "192.0.2.7"),
    ("192.0.2.7", ["127.0.0.1"], "192.0.2.7"),
    ("192.0.2.7", ["10.0.0.1, 127.0.0.1"], "192.0.2.7"),
    # one proxy: its entry, and nothing that the client had put in front of it
    ("10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
    ("10.0.0.1", ["127.0.0.1, 192.0.2.7"], "192.0.2.7"),
    ("10.0.0.1", ["127.0.0.1", "192.0.2.7"], "192.0.2.7"),
    ("10.0.0.1", ["127.0.0.1,192.0.2.7 "], "192.0.2.7"),
    # two proxies
    ("10.0.0.1", ["1.2.3.4, 192.0.2.7, 10.0.0.2"], "192.0.2.7"),
    ("2001:db8::1", ["192.0.2.7, 10.0.0.2"], "192.0.2.7"),
    # only proxies, or nothing: the furthest that is known
    ("10.0.0.1", [], "10.0.0.1"),
    ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
    # what is no address ends the chain
    ("10.0.0.1", ["192.0.2.7, unknown, 10.0.0.2"], "10.0.0.2"),
    ("10.0.0.1", ["192.0.2.7, "], "10.0.0.1"),
    ("10.0.0.1", ["<script>"], "10.0.0.1"),
    # as proxies write them
    ("10.0.0.1", ["192.0.2.7:4711"], "192.0.2.7"),
    ("10.0.0.1", ["[2001:db9::5]:4711"], "2001:db9::5"),
    ("10.0.0.1", ["2001:db9::5"], "2001:db9::5"),
    ("::ffff:10.0.0.1", ["192.0.2.7"], "192.0.2.7"),
    ("testclient", ["192.0.2.7"], "testclient"),
]


@pytest.mark.parametrize(("peer", "forwarded", "address"), CASES)
def test_who_is_believed(peer: str, forwarded: list[str], address: str) -> None:
    """The list is read from its end, as far as trusted proxies have written it."""
    assert client_address(peer, forwarded, PROXIES) == address


@given(st.lists(st.text(max_size=30), max_size=4))
def test_a_client_can_not_choose_its_address(forged: list[str]) -> None:
    """Whatever a client sends, without a proxy it is the peer, and behind one what that proxy has seen."""
    assert client_address("192.0.2.7", forged, PROXIES) == "192.0.2.7"
    assert client_address("10.0.0.1", [*forged, "192.0.2.7"], PROXIES) == "192.0.2.7"


def test_a_list_without_end() -> None:
    """However long a list is, a bounded part of it is read."""
    assert client_address("10.0.0.1", [", ".join(["10.0.0.9"] * 100_000)], PROXIES) == "10.0.0.9"
    assert MAX_HOPS < 100
