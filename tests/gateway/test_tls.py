"""TLS from files, and files that change."""

import asyncio
import os
import shutil
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from gateway.settings import SettingsError, load
from gateway.supervise.tls import BadCertificate, Certificate

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl")


def make(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for localhost, with its key."""
    certificate, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = (
        f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} -out {certificate} "
        "-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    return certificate, key


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, Path]]:
    """Two certificates with their keys."""
    folder = tmp_path_factory.mktemp("certificates")
    return [make(folder, "one"), make(folder, "two")]


def put(pair: tuple[Path, Path], folder: Path) -> Certificate:
    """Put a pair where a gateway reads it."""
    for source, name in zip(pair, ("tls.crt", "tls.key"), strict=True):
        shutil.copy(source, folder / name)
    return Certificate(folder / "tls.crt", folder / "tls.key")


def shakes(certificate: Certificate, trusted: Path, **client: object) -> bool:
    """Whether a client that trusts one certificate alone gets an answer."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(1))
        writer.close()

    async def talk() -> bool:
        server = await asyncio.start_server(
            answer, "localhost", 0, ssl=certificate.context, family=socket.AF_INET
        )
        context = ssl.create_default_context(cafile=trusted)
        for name, value in client.items():
            setattr(context, name, value)
        async with server:
            port = server.sockets[0].getsockname()[1]
            try:
                reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
                writer.write(b"x")
                said = await reader.read()
                writer.close()
            except (ssl.SSLError, ConnectionError):
                return False
            return said == b"x"

    return asyncio.run(talk())


def test_new_files_are_taken_without_a_restart(pairs: list[tuple[Path, Path]], tmp_path: Path) -> None:
    """The same context serves the new certificate once it is looked at; half a change leaves the old one."""
    (first, _), (second, second_key) = pairs
    certificate = put(pairs[0], tmp_path)
    assert (shakes(certificate, first), shakes(certificate, second)) == (True, False)
    assert not certificate.refresh()
    shutil.copy(second, tmp_path / "tls.crt")  # the key is not there yet
    assert not certificate.refresh()
    assert shakes(certificate, first)
    shutil.copy(second_key, tmp_path / "tls.key")
    assert certificate.refresh()
    assert (shakes(certificate, first), shakes(certificate, second)) == (False, True)
    assert not certificate.refresh()


@pytest.mark.parametrize("harm", ["gone", "nonsense", "empty"])
def test_bad_files_leave_what_is_there(pairs: list[tuple[Path, Path]], tmp_path: Path, harm: str) -> None:
    """Files that vanish or are no certificate are told once in the log, and connections go on."""
    certificate = put(pairs[0], tmp_path)
    if harm == "gone":
        (tmp_path / "tls.crt").unlink()
    else:
        (tmp_path / "tls.crt").write_text("" if harm == "empty" else "nonsense", encoding="utf-8")
    assert not certificate.refresh()
    assert not certificate.refresh()
    assert shakes(certificate, pairs[0][0])
    put(pairs[1], tmp_path)
    assert certificate.refresh()


def test_old_versions_are_refused(pairs: list[tuple[Path, Path]], tmp_path: Path) -> None:
    """TLS 1.2 and 1.3 are spoken, and nothing before them."""
    certificate = put(pairs[0], tmp_path)
    trusted = pairs[0][0]
    assert certificate.context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert shakes(certificate, trusted, maximum_version=ssl.TLSVersion.TLSv1_2)
    assert shakes(certificate, trusted, minimum_version=ssl.TLSVersion.TLSv1_3)
    ciphers = {
        cipher["name"] for cipher in certificate.context.get_ciphers() if cipher["protocol"] != "TLSv1.3"
    }
    assert all(name.startswith("ECDHE") and ("GCM" in name or "POLY" in name) for name in ciphers)


def test_what_can_not_be_used(pairs: list[tuple[Path, Path]], tmp_path: Path) -> None:
    """Missing files, another's key, and a key that wants a password are refused before anything starts."""
    (certificate, key), (_, other) = pairs
    locked = tmp_path / "locked.key"
    command = f"ec -in {key} -out {locked} -aes256 -passout pass:secret"
    subprocess.run(["openssl", *command.split()], check=True, capture_output=True, env={**os.environ})
    for cert, its_key in (
        (tmp_path / "none", key),
        (certificate, tmp_path / "none"),
        (certificate, other),
        (certificate, locked),
        (key, key),
    ):
        with pytest.raises(BadCertificate):
            Certificate(cert, its_key)


@pytest.mark.parametrize(
    ("server", "says"),
    [
        ({"tls_certificate": "a.crt"}, "together"),
        ({"tls_key": "a.key"}, "together"),
        ({"admin_port": 8080}, "another one"),
        ({"trusted_proxies": ["proxy.internal"]}, "no address or network"),
        ({"cors_origins": ["https://a.example.com/"]}, "no origin"),
        ({"cors_origins": ["app.example.com"]}, "no origin"),
        ({"cors_origins": ["null"]}, "no origin"),
    ],
)
def test_settings_that_contradict_themselves(
    server: dict[str, object], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a certificate, one port twice, and what is no network or origin are refused with the reason."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("TURNOUT_")]:
        monkeypatch.delenv(name)
    with pytest.raises((SettingsError, ValueError), match=says):
        load(server=server)


@pytest.mark.slow
def test_a_worker_speaks_tls_on_both_ports(pairs: list[tuple[Path, Path]], tmp_path: Path) -> None:
    """A worker as `turnout serve` starts it answers on the sockets that it is handed, each with its paths."""
    certificate, key = pairs[0]
    with ExitStack() as stack:
        public, admin = (stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(2))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("TURNOUT_")},
            "TURNOUT_STATE_DIR": str(tmp_path / "state"),
            "TURNOUT_BASE__MODEL": "/no/such/base",
            "TURNOUT_SERVER__TLS_CERTIFICATE": str(certificate),
            "TURNOUT_SERVER__TLS_KEY": str(key),
            "TURNOUT_SERVER__ADMIN_PORT": "0",
            "TURNOUT_ADMIN_KEY": "an-administrators-key",
        }
        fds = [public.fileno(), admin.fileno()]
        command = [sys.executable, "-m", "gateway", "worker", "--fd", str(fds[0]), "--admin-fd", str(fds[1])]
        process = subprocess.Popen(command, env=environment, pass_fds=fds, cwd=tmp_path)
        stack.callback(process.wait, 30)
        stack.callback(process.kill)
        trusting = ssl.create_default_context(cafile=certificate)
        http = stack.enter_context(
            httpx.Client(
                verify=trusting, headers={"Authorization": "Bearer an-administrators-key"}, timeout=60
            )
        )
        statuses = [
            [
                http.get(f"https://localhost:{listener.getsockname()[1]}{path}").status_code
                for path in ("/healthz", "/v1/models", "/admin/keys", "/metrics")
            ]
            for listener in (public, admin)
        ]
        assert statuses == [[200, 200, 404, 404], [200, 404, 200, 200]]
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://localhost:{public.getsockname()[1]}/healthz", timeout=10)
