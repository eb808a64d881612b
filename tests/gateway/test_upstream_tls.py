"""Engines behind https."""

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from gateway.upstream.client import Client, Timeouts
from gateway.upstream.faults import ConnectFailed
from gateway.upstream.origin import Origin


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")
def test_https_is_spoken_and_certificates_are_checked(tmp_path: Path) -> None:
    """An engine with a trusted certificate answers; one whose certificate nobody vouches for gets nothing."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make = (
        f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} -out {certificate} "
        "-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(["openssl", *make.split()], check=True, capture_output=True)
    seen = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"{}"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi")
        await writer.drain()
        writer.close()

    async def run() -> None:
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(certificate, key)
        server = await asyncio.start_server(answer, "localhost", 0, ssl=ours)
        port = server.sockets[0].getsockname()[1]
        origin = Origin.parse(f"https://localhost:{port}")
        trusting = Client(Timeouts(), tls=ssl.create_default_context(cafile=certificate))
        response = await trusting.post(origin, "/x", b"{}", request_id="r")
        assert (response.status, await response.read_all(100)) == (200, b"hi")
        response.close()
        wary = Client(Timeouts())
        with pytest.raises(ConnectFailed, match="certificate"):
            await wary.post(origin, "/x", b"{}", request_id="r")
        await trusting.aclose()
        await wary.aclose()
        server.close()

    asyncio.run(run())
    assert len(seen) == 1
