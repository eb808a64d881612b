"""CORS: which pages of other origins may call `/v1` from a browser. Without a setting, none may.

No cookies and no credentials of the browser are ever accepted, so an origin that is let in can do what the
key that its page holds may do, and nothing else. `/admin` has no part in it.
"""

import re
from collections.abc import Iterable, Mapping

from gateway.api.headers import RawHeaders

MAX_AGE_S = 600
_PATHS = ("/v1/", "/tokenize", "/detokenize")
_NAMES = re.compile(rb"[A-Za-z0-9-]{1,64}(, ?[A-Za-z0-9-]{1,64}){0,63}")
_LIMITS, _TOLD = (b"requests", b"tokens"), (b"limit", b"remaining", b"reset")
_EXPOSED = b", ".join(
    (
        b"x-request-id",
        b"x-client-request-id",
        b"x-turnout-route",
        b"x-turnout-adapter",
        b"x-turnout-arm",
        b"request-id",
        b"retry-after",
        *(b"x-ratelimit-%b-%b" % (what, of) for of in _LIMITS for what in _TOLD),
        *(b"anthropic-ratelimit-%b-%b" % (of, what) for of in _LIMITS for what in _TOLD),
    )
)


class Cors:
    """What answers to pages of other origins say. It is false when no origin is let in."""

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._origins = frozenset(origin.encode() for origin in origins)
        self._every = b"*" in self._origins

    def __bool__(self) -> bool:
        return bool(self._origins)

    def covers(self, path: str) -> bool:
        """Whether pages may call this path at all."""
        return bool(self._origins) and path.startswith(_PATHS)

    def headers(self, origin: bytes | None) -> RawHeaders:
        """Return the headers of an answer to a request with this `Origin`."""
        if self._every:
            return [(b"access-control-allow-origin", b"*"), (b"access-control-expose-headers", _EXPOSED)]
        if origin is None or origin not in self._origins:
            return [(b"vary", b"Origin")]
        return [
            (b"access-control-allow-origin", origin),  # one of ours, byte by byte
            (b"access-control-expose-headers", _EXPOSED),
            (b"vary", b"Origin"),
        ]

    def lines(self, origin: bytes | None) -> bytes:
        """Return the same as header lines."""
        return b"".join(b"%b: %b\r\n" % header for header in self.headers(origin))

    def preflight(self, headers: Mapping[bytes, bytes]) -> RawHeaders | None:
        """Return the headers that answer a preflight; None when the request is none."""
        origin = headers.get(b"origin")
        if origin is None or b"access-control-request-method" not in headers:
            return None
        allowed = self.headers(origin)
        if not self._every and origin not in self._origins:
            return allowed
        asked = headers.get(b"access-control-request-headers", b"")
        return [
            *allowed,
            (b"access-control-allow-methods", b"GET, POST"),
            (
                b"access-control-allow-headers",
                asked if _NAMES.fullmatch(asked) else b"authorization, content-type",
            ),
            (b"access-control-max-age", b"%d" % MAX_AGE_S),
        ]
