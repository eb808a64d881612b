"""Servers on loopback that sources are read from: a web server with TLS, a model hub, S3, Cloud Storage."""

import base64
import hashlib
import http.server
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from gateway.supervise.engine import free_port

COMMIT = "c0ffee" * 6 + "c0ff"
HUB_TOKEN = "hf_" + "s" * 30


@dataclass
class Site:
    """What a server has, and what it was asked: paths to bodies, and behaviours by path."""

    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    credentials: str | None = None
    stall: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        """The server's address."""
        return f"https://localhost:{self.port}"


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for localhost and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    make = (
        f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {key} -out {cert} "
        "-days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run(["openssl", *make.split()], check=True, capture_output=True)
    return cert, key


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers quietly."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@contextmanager
def _serving(
    handler: type[http.server.BaseHTTPRequestHandler], tls: tuple[Path, Path] | None = None
) -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def web_site(tls: tuple[Path, Path]) -> Iterator[Site]:
    """Run a web server with TLS."""
    site = Site()

    class Handler(_Handler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            given = self.headers.get("authorization")
            site.asked.append((self.path, given))
            wanted = site.credentials and f"Basic {base64.b64encode(site.credentials.encode()).decode()}"
            if path in site.redirects:
                self.answer(302, location=site.redirects[path])
            elif path in site.statuses:
                self.answer(site.statuses[path], b"secret of the server")
            elif wanted and given != wanted:
                self.answer(401)
            elif path == "/endless":
                self.endless()
            elif path == "/stalled":
                self.send_response(200)
                self.send_header("content-length", "100")
                self.end_headers()
                self.wfile.flush()
                site.stall.wait(30)
            else:
                body = site.files.get(path)
                self.answer(200 if body is not None else 404, body or b"")

        def endless(self) -> None:
            """Send blocks until the other side has had enough."""
            self.send_response(200)
            self.send_header("connection", "close")
            self.end_headers()
            self.close_connection = True
            try:
                while True:
                    self.wfile.write(bytes(65536))
            except OSError:
                return

    with _serving(Handler, tls) as port:
        site.port = port
        yield site
        site.stall.set()


@contextmanager
def model_hub(
    repositories: dict[str, dict[str, bytes]], *, private: bool = False, understates: str = ""
) -> Iterator[str]:
    """Run what huggingface_hub asks of a hub for single files; the branch `main` and one commit exist.

    Of the file that it `understates` it says, when asked, that it has ten bytes.
    """

    class Handler(_Handler):
        def do_HEAD(self) -> None:
            self.serve()

        def do_GET(self) -> None:
            self.serve()

        def serve(self) -> None:
            parts = unquote(urlsplit(self.path).path).strip("/").split("/")
            files = repositories.get("/".join(parts[:2]))
            allowed = not private or self.headers.get("authorization") == f"Bearer {HUB_TOKEN}"
            if files is None or not allowed or parts[2:3] != ["resolve"]:
                self.answer(401 if private else 404, x_error_code="RepoNotFound")
            elif parts[3] not in {"main", COMMIT}:
                self.answer(404, x_error_code="RevisionNotFound")
            elif "/".join(parts[4:]) not in files:
                self.answer(404, x_error_code="EntryNotFound", x_repo_commit=COMMIT)
            else:
                body = files["/".join(parts[4:])]
                etag = f'"{hashlib.sha256(body).hexdigest()}"'
                said = self.command == "HEAD" and parts[-1] == understates
                size = {"content-length": "10"} if said else {}
                self.answer(200, body, etag=etag, x_repo_commit=COMMIT, **size)

    with _serving(Handler) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def s3(put: Callable[[Callable[[str, bytes], None]], None]) -> Iterator[dict[str, str]]:
    """Run moto's S3 with a bucket `models`, let `put` fill it, and yield the environment that leads there."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing-secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    try:
        client = boto3.client(
            "s3",
            endpoint_url=environment["AWS_ENDPOINT_URL"],
            aws_access_key_id="testing",
            aws_secret_access_key="testing-secret",
            region_name="us-east-1",
        )
        # Its buckets belong to the process: those of the server before are still there.
        httpx.post(f"http://{host}:{port}/moto-api/reset", trust_env=False).raise_for_status()
        client.create_bucket(Bucket="models")
        put(lambda key, body: client.put_object(Bucket="models", Key=key, Body=body))
        client.close()
        yield environment
    finally:
        server.stop()


@contextmanager
def gs(put: Callable[[Callable[[str, bytes], None]], None]) -> Iterator[dict[str, str]]:
    """Run a Cloud Storage emulator with a bucket `models`, and yield the environment that leads there."""
    from gcp_storage_emulator.server import create_server

    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="models")
    server.start()
    url = f"http://127.0.0.1:{port}"

    def upload(key: str, body: bytes) -> None:
        where = f"{url}/upload/storage/v1/b/models/o"
        httpx.post(
            where, params={"uploadType": "media", "name": key}, content=body, trust_env=False
        ).raise_for_status()

    try:
        put(upload)
        yield {"STORAGE_EMULATOR_HOST": url, "FSSPEC_GS_TOKEN": "anon"}
    finally:
        server.stop()
