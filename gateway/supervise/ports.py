"""What the gateway's ports are made of: listening sockets and the certificate."""

import socket

from gateway.settings import Settings
from gateway.supervise.tls import Certificate

BACKLOG = 2048


def certificate_of(settings: Settings) -> Certificate | None:
    """Return the certificate that the settings name; None for plain HTTP.

    Raises:
        BadCertificate: it can't be used.
    """
    server = settings.server
    if server.tls_certificate is None or server.tls_key is None:
        return None
    return Certificate(server.tls_certificate, server.tls_key)


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: the address can't be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=BACKLOG)
