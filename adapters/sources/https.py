"""Fetch one file by https, from the internet's addresses only.

A gateway stands where its callers do not: a name that leads to loopback or to a private network would let
them read what only this machine can. So a name is resolved here, every address of it is checked, and the
connection goes to the very address that was checked. No proxy of the environment stands between.
"""

import base64
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import httpcore

from adapters.sources.names import Source, SourceRefused, parse
from adapters.sources.policy import is_public

MAX_REDIRECTS = 5
CONNECT_TIMEOUT_S = 10.0
READ_TIMEOUT_S = 30.0
_TIMEOUTS = {"connect": CONNECT_TIMEOUT_S, "read": READ_TIMEOUT_S, "write": READ_TIMEOUT_S, "pool": 1.0}
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
Address = tuple[str, int]
Resolve = Callable[[str, int], list[str]]


def resolve(host: str, port: int) -> list[str]:
    """Return the IP addresses of a host."""
    import socket  # noqa: PLC0415 - only here, so that tests of the rest can't reach a resolver

    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]).partition("%")[0] for entry in found))


class CheckedBackend(httpcore.SyncBackend):
    """Connects to addresses that were checked, never to a name."""

    def __init__(self, *, private: bool, resolve: Resolve = resolve) -> None:
        self._private = private
        self._resolve = resolve

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers.

        Raises:
            SourceRefused: the name leads to an address that is not public, even among others.
            httpcore.ConnectError: none of the addresses answers, or the name is unknown.
        """
        try:
            addresses = self._resolve(host, port)
        except OSError as error:
            raise httpcore.ConnectError("the name is unknown") from error
        if not self._private and not all(is_public(address) for address in addresses):
            raise SourceRefused(
                f"{host} leads to an address of a private network or of this machine, which sources may "
                "not be "
                "read from; registry.private_sources = true in the gateway's settings allows it"
            )
        last: Exception = httpcore.ConnectError("the name has no address")
        for address in addresses:
            try:
                return super().connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
        raise last


def fetch(
    source: Source,
    target: Path,
    *,
    max_bytes: int,
    private: bool,
    expect: Callable[[int], None],
    tls: ssl.SSLContext | None = None,
) -> None:
    """Write what `source` names into the new file `target`. `expect` is told its size if known.

    Raises:
        SourceRefused: it is not to be had, too large, or lies where sources may not be read from.
        OSError: the file can't be written.
    """
    context = tls or ssl.create_default_context()
    url, headers = _without_credentials(source.text)
    with httpcore.ConnectionPool(
        ssl_context=context, network_backend=CheckedBackend(private=private)
    ) as pool:
        try:
            for _ in range(MAX_REDIRECTS + 1):
                with pool.stream(
                    "GET", url, headers=list(headers.items()), extensions={"timeout": _TIMEOUTS}
                ) as response:
                    if response.status not in _REDIRECTS:
                        _save(response, source, target, max_bytes=max_bytes, expect=expect)
                        return
                    url, headers = _redirected(url, headers, response)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            raise SourceRefused(f"{source.public} could not be read: {_because(error)}") from error
    raise SourceRefused(f"{source.public} leads on and on: more than {MAX_REDIRECTS} redirects")


def _without_credentials(text: str) -> tuple[str, dict[str, str]]:
    """Return the address as it is asked for, and its user and password as a header."""
    parts = urlsplit(text)
    headers = {"accept-encoding": "identity", "user-agent": "turnout"}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, fragment="").geturl(), headers


def _redirected(url: str, headers: dict[str, str], response: httpcore.Response) -> tuple[str, dict[str, str]]:
    location = dict(response.headers).get(b"location") or dict(response.headers).get(b"Location") or b""
    onward = parse(urljoin(url, location.decode("latin-1")))
    if onward.kind != "https":
        raise SourceRefused("the server leads on to something that is not https://")
    asked, own = _without_credentials(onward.text)
    if urlsplit(asked).netloc != urlsplit(url).netloc:
        return asked, own  # credentials are for the host that they were given for
    return asked, {**headers, **own}


def _save(
    response: httpcore.Response,
    source: Source,
    target: Path,
    *,
    max_bytes: int,
    expect: Callable[[int], None],
) -> None:
    if response.status != 200:
        raise SourceRefused(
            f"{source.public}: the server answered HTTP {response.status}{_hint(response.status)}"
        )
    lengths = [value for name, value in response.headers if name.lower() == b"content-length"]
    if lengths and lengths[0].isdigit():
        expect(int(lengths[0]))
        if int(lengths[0]) > max_bytes:
            raise SourceRefused(too_large(source, max_bytes))
    done = 0
    with target.open("xb") as file:
        for block in response.iter_stream():
            done += len(block)
            if done > max_bytes:
                raise SourceRefused(too_large(source, max_bytes))
            file.write(block)


def too_large(source: Source, max_bytes: int) -> str:
    """Say that a source is above the limit."""
    return (
        f"{source.public} is larger than the limit of {max_bytes} bytes (registry.max_source_bytes); pack "
        "the "
        "adapter alone, or raise it"
    )


def _hint(status: int) -> str:
    if status in {401, 403}:
        return ": it wants credentials: https://user:password@… or a signed address (neither is stored)"
    return ": look at the address" if status == 404 else "; try again"


def _because(error: Exception) -> str:
    if isinstance(error, httpcore.TimeoutException):
        return "the server was silent for too long; try again"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return "its certificate is not trusted here (SSL_CERT_FILE names other authorities)"
    if isinstance(error, httpcore.ConnectError):
        return "nobody answers there; look at the address"
    return "the connection broke; try again"
