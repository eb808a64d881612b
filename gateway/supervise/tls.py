"""TLS from files: one context for every connection, which takes new files without a restart."""

import asyncio
import logging
import os
import ssl
from pathlib import Path

LOOK_EVERY_S = 5.0
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all good
_log = logging.getLogger("turnout.tls")

Stamp = tuple[tuple[int, int, int], ...]


class BadCertificate(Exception):
    """The certificate and the key can't be used; the message says why."""


class Certificate:
    """A certificate with its key. `context` is the same object for ever; what it holds is replaced.

    Connections that are open keep what they began with.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raise BadCertificate when the files can't be used."""
        self._certificate = certificate
        self._key = key
        self._stamp = self._look()
        self.context = _context()
        self._load(self.context)
        self._told: Stamp | None = None

    def refresh(self) -> bool:
        """Take the files if they have changed; whether that was so.

        Files that do not fit, as while they are being replaced one after the other, leave what is there.
        """
        try:
            stamp = self._look()
            if stamp == self._stamp:
                return False
            self._load(_context())  # a context half filled would refuse everybody
            self._load(self.context)
        except BadCertificate as error:
            self._tell(str(error))
            return False
        self._stamp, self._told = stamp, None
        _log.warning("a new certificate is in use: %s", self._certificate)
        return True

    async def watch(self) -> None:
        """Look for new files until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            await asyncio.to_thread(self.refresh)

    def _look(self) -> Stamp:
        try:
            found = [os.stat(path) for path in (self._certificate, self._key)]  # noqa: PTH116 - follows links
        except OSError as error:
            raise BadCertificate(f"{error.filename} can't be read: {error.strerror}") from error
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def _load(self, context: ssl.SSLContext) -> None:
        try:
            # An empty password: a key that wants one is refused, and nobody is asked at a terminal.
            context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ValueError) as error:  # ssl's own errors are OSErrors
            raise BadCertificate(
                f"{self._certificate} and {self._key} can't be used as a certificate and its key: "
                f"{getattr(error, 'reason', None) or error}"
            ) from error

    def _tell(self, what: str) -> None:
        try:
            stamp: Stamp | None = self._look()
        except BadCertificate:
            stamp = ()
        if stamp != self._told:
            self._told = stamp
            _log.error("the certificate in use stays: %s", what)


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    return context
