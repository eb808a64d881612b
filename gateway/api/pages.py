"""Headers of answers that a browser may show: it has to take them for what they are, and run nothing else."""

from gateway.api.headers import RawHeaders

PLAIN: RawHeaders = [(b"x-content-type-options", b"nosniff")]
"""For whatever is no page."""

_CDN = "https://cdn.jsdelivr.net"
_POLICY = (
    "default-src 'none'; "
    f"script-src 'self' 'unsafe-inline' {_CDN}; style-src 'self' 'unsafe-inline' {_CDN}; "
    "img-src 'self' data: https://fastapi.tiangolo.com; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HTML: RawHeaders = [
    *PLAIN,
    (b"content-security-policy", _POLICY.encode()),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
]
"""For pages. Only `/docs` is one, and the CDN that its scripts come from is all that it may load from."""


def protection(headers: RawHeaders) -> RawHeaders:
    """Return the headers that go with an answer's own."""
    kind = next((value for name, value in headers if name.lower() == b"content-type"), b"")
    return (
        HTML if kind.strip().lower().startswith((b"text/html", b"application/xhtml", b"image/svg")) else PLAIN
    )
