"""An adapter is brought here from wherever a source says, whole and within the limits, or not at all."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from adapters.inspect import CONFIG, WEIGHTS
from adapters.sources import fetching
from adapters.sources.fetching import Fetched, Sources
from adapters.sources.layout import MANIFEST
from adapters.sources.names import SourceRefused
from adapters.sources.policy import SourcePolicy
from tests.adapters.folders import make_adapter
from tests.adapters.sources.servers import COMMIT, HUB_TOKEN, Site, certificate, gs, model_hub, s3, web_site
from tests.adapters.sources.tars import PACK, adapter_entries, entry, tar_of

pytestmark = pytest.mark.slow

OPEN = SourcePolicy(roots=None, private_addresses=True, timeout_s=60.0)
ROOT = Path(__file__).resolve().parents[3]
TLS = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl")


@pytest.fixture
def environment() -> dict[str, str]:
    """This process's environment without what would lead a library elsewhere."""
    apart = ("AWS_", "FSSPEC_", "GCSFS_", "GOOGLE_", "STORAGE_", "HF_", "SSL_", "HTTP", "http")
    return {name: value for name, value in os.environ.items() if not name.startswith(apart)}


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """An adapter's files by name."""
    folder = make_adapter(tmp_path_factory.mktemp("made"))
    return {name: (folder / name).read_bytes() for name in (CONFIG, WEIGHTS)}


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The same adapter as a .tar.gz."""
    return PACK["tar.gz"](tar_of(adapter_entries(tmp_path_factory.mktemp("packed"))))


@contextmanager
def opened(sources: Sources, text: str, root: Path) -> Iterator[Fetched]:
    """Open a source, and see that nothing of it is left afterwards."""
    with sources.open(text) as fetched:
        yield fetched
    assert list((root / "incoming").glob("*")) == []


def refusal(sources: Sources, text: str, root: Path) -> str:
    """Return why a source is refused, having seen that nothing of it was left."""
    with pytest.raises(SourceRefused) as caught, sources.open(text):
        pass
    assert list((root / "incoming").glob("*")) == []
    return str(caught.value)


def test_a_folder_is_read_where_it_is(tmp_path: Path, adapter: dict[str, bytes]) -> None:
    """A local folder costs no copy and no process, and is left alone."""
    folder = make_adapter(tmp_path / "mine")
    with Sources(tmp_path / "root", OPEN).open(str(folder)) as fetched:
        assert fetched == Fetched(folder, str(folder))
    assert (folder / WEIGHTS).read_bytes() == adapter[WEIGHTS]


def test_files_that_lead_out_of_a_root(tmp_path: Path) -> None:
    """A file of a permitted folder that is a link to elsewhere is refused."""
    folder = make_adapter(tmp_path / "root" / "mine")
    (folder / WEIGHTS).rename(tmp_path / "elsewhere")
    (folder / WEIGHTS).symlink_to(tmp_path / "elsewhere")
    policy = replace(OPEN, roots=(tmp_path / "root",))
    words = refusal(Sources(tmp_path / "state", policy), str(folder), tmp_path / "state")
    assert "registry.source_roots" in words


@pytest.mark.parametrize("pack", ["tar", "tar.gz", "tar.zst"])
def test_a_tar(tmp_path: Path, environment: dict[str, str], adapter: dict[str, bytes], pack: str) -> None:
    """A local tar is unpacked by a process of its own, and gone after the block."""
    path = tmp_path / f"adapter.{pack}"
    path.write_bytes(PACK[pack](tar_of([*adapter_entries(tmp_path / "made"), entry(MANIFEST, b"{}")])))
    with opened(Sources(tmp_path, OPEN, environment=environment), str(path), tmp_path) as fetched:
        assert {one.name: one.read_bytes() for one in fetched.folder.iterdir()} == {
            **adapter,
            MANIFEST: b"{}",
        }
        assert fetched.source == str(path)


def test_paths_that_are_nothing(tmp_path: Path) -> None:
    """What is neither folder nor file, a device, and a tar above the limit are refused at once."""
    sources = Sources(tmp_path, replace(OPEN, max_bytes=10))
    assert "is not a folder" in refusal(sources, str(tmp_path / "none"), tmp_path)
    assert "is not a folder" in refusal(sources, "/dev/zero", tmp_path)
    (tmp_path / "large.tar").write_bytes(bytes(11))
    assert "larger than the limit of 10 bytes" in refusal(sources, str(tmp_path / "large.tar"), tmp_path)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for localhost."""
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def site(tls: tuple[Path, Path], environment: dict[str, str]) -> Iterator[Site]:
    """A web server that the child trusts."""
    environment["SSL_CERT_FILE"] = str(tls[0])
    with web_site(tls) as running:
        yield running


@TLS
def test_https(tmp_path: Path, environment: dict[str, str], site: Site, packed: bytes) -> None:
    """A tar is fetched with the credentials and the query of its address, and stored without them."""
    site.files["/a.tgz"], site.credentials = packed, "me:pass word"
    text = f"https://me:pass%20word@localhost:{site.port}/a.tgz?sig=secret"
    with opened(Sources(tmp_path, OPEN, environment=environment), text, tmp_path) as fetched:
        assert fetched.source == f"{site.url}/a.tgz"
        assert sorted(path.name for path in fetched.folder.iterdir()) == [CONFIG, WEIGHTS]
    assert site.asked[0][0] == "/a.tgz?sig=secret"


@TLS
def test_redirects(tmp_path: Path, environment: dict[str, str], site: Site, packed: bytes) -> None:
    """A redirect is followed; the password goes to its own host alone."""
    site.files["/a.tgz"] = packed
    other = site.url.replace("localhost", "LOCALHOST")
    site.redirects |= {"/here": "/a.tgz", "/there": f"{other}/a.tgz", "/plain": "http://localhost/a"}
    site.redirects |= {f"/{n}": f"/{n + 1}" for n in range(9)}
    sources = Sources(tmp_path, OPEN, environment=environment)
    for path in ("here", "there"):
        with opened(sources, f"https://me:secret@localhost:{site.port}/{path}", tmp_path):
            pass
    assert [given is not None for _, given in site.asked] == [True, True, True, False]
    assert "use https://" in refusal(sources, f"{site.url}/plain", tmp_path)
    assert "more than 5 redirects" in refusal(sources, f"{site.url}/0", tmp_path)


@TLS
def test_https_that_fails(tmp_path: Path, environment: dict[str, str], site: Site) -> None:
    """Each failure is told with what to do, and never with what the server said."""
    site.statuses |= {"/mine": 403, "/broken": 500}
    site.files["/text"] = b"<html>" * 300
    sources = Sources(tmp_path, OPEN, environment=environment)
    assert "HTTP 404: look at the address" in refusal(sources, f"{site.url}/none", tmp_path)
    forbidden = refusal(sources, f"https://u:swordfish@localhost:{site.port}/mine?k=swordfish", tmp_path)
    assert "it wants credentials" in forbidden
    assert "swordfish" not in forbidden
    assert "secret of the server" not in refusal(sources, f"{site.url}/broken", tmp_path)
    assert "no whole tar archive" in refusal(sources, f"{site.url}/text", tmp_path)
    small = Sources(tmp_path, replace(OPEN, max_bytes=1000), environment=environment)
    assert "larger than the limit of 1000 bytes" in refusal(small, f"{site.url}/text", tmp_path)
    assert "larger than the limit of 1000 bytes" in refusal(small, f"{site.url}/endless", tmp_path)
    del environment["SSL_CERT_FILE"]
    wary = Sources(tmp_path, OPEN, environment=environment)
    assert "certificate is not trusted" in refusal(wary, f"{site.url}/text", tmp_path)
    assert "nobody answers there" in refusal(wary, "https://localhost:1/a.tar", tmp_path)


@TLS
def test_private_addresses(tmp_path: Path, environment: dict[str, str], site: Site, packed: bytes) -> None:
    """By default nothing is read from loopback or a private network, however it is named."""
    site.files["/a.tgz"] = packed
    sources = Sources(tmp_path, replace(OPEN, private_addresses=False), environment=environment)
    for host in ("localhost", "127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0x7f.1", "2130706433"):
        words = refusal(sources, f"https://{host}:{site.port}/a.tgz", tmp_path)
        assert "private network or of this machine" in words, host
    assert site.asked == []


@TLS
def test_too_slow_and_stopping(
    tmp_path: Path, environment: dict[str, str], site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fetch ends when its time is up, and when the gateway stops; its process is gone with it."""
    seen: list[tuple[str, int | None]] = []
    now = [0.0]
    monkeypatch.setattr(fetching, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def progress(stage: str, _: int, total: int | None) -> None:
        seen.append((stage, total))
        now[0] += 0.0 if total is None else 2.0  # it has begun, however long that took here

    impatient = Sources(tmp_path, replace(OPEN, timeout_s=1.5), environment=environment)
    with (
        pytest.raises(SourceRefused, match=r"did not arrive within 1.5 s"),
        impatient.open(f"{site.url}/stalled", progress=progress),
    ):
        pass
    assert {stage for stage, _ in seen} == {"fetching"}
    assert seen[-1][1] == 100
    patient = Sources(tmp_path, OPEN, environment=environment)
    threading.Timer(0.3, patient.stop).start()
    assert "the gateway is stopping" in refusal(patient, f"{site.url}/stalled", tmp_path)


@TLS
def test_a_gateway_that_dies(tmp_path: Path, environment: dict[str, str], site: Site) -> None:
    """When the process that asked is killed, the one that reads ends by itself."""
    code = (
        "import sys; from pathlib import Path; from adapters.sources.fetching import Sources; "
        "from adapters.sources.policy import SourcePolicy; "
        "policy = SourcePolicy(private_addresses=True); "
        "Sources(Path(sys.argv[1]), policy).open(sys.argv[2]).__enter__()"
    )
    command = [sys.executable, "-c", code, str(tmp_path), f"{site.url}/stalled"]
    with subprocess.Popen(command, env=environment, cwd=ROOT) as asker:
        deadline = time.monotonic() + 60
        while not site.asked:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        (reader,) = psutil.Process(asker.pid).children()
        asker.kill()
    psutil.wait_procs([reader], timeout=60)
    assert not reader.is_running()


@pytest.fixture(scope="module", params=["s3", "gs"])
def bucket(
    request: pytest.FixtureRequest, adapter: dict[str, bytes], packed: bytes
) -> Iterator[tuple[str, dict[str, str]]]:
    """A bucket's kind, and the environment that leads to one with adapters."""

    def fill(put: object) -> None:
        assert callable(put)
        for name, body in {**adapter, MANIFEST: b"{}", "optimizer.pt": bytes(100)}.items():
            put(f"team/support/{name}", body)
        put("team/support.tar.gz", packed)
        put(f"half/{CONFIG}", adapter[CONFIG])

    with {"s3": s3, "gs": gs}[request.param](fill) as environment:
        yield request.param, environment


def test_a_bucket(
    tmp_path: Path,
    environment: dict[str, str],
    bucket: tuple[str, dict[str, str]],
    adapter: dict[str, bytes],
) -> None:
    """A folder of objects gives the adapter's own files, and a tar the same."""
    kind, there = bucket
    sources = Sources(tmp_path, OPEN, environment=environment | there)
    with opened(sources, f"{kind}://models/team/support/", tmp_path) as fetched:
        found = {path.name: path.read_bytes() for path in fetched.folder.iterdir()}
        assert found == {**adapter, MANIFEST: b"{}"}
        assert fetched.source == f"{kind}://models/team/support"
    with opened(sources, f"{kind}://models/team/support.tar.gz", tmp_path) as fetched:
        assert {path.name: path.read_bytes() for path in fetched.folder.iterdir()} == adapter


def test_a_bucket_that_fails(
    tmp_path: Path, environment: dict[str, str], bucket: tuple[str, dict[str, str]]
) -> None:
    """What is missing or too large is told with what to do."""
    kind, there = bucket
    sources = Sources(tmp_path, OPEN, environment=environment | there)
    assert f"there is nothing at {kind}://models/none" in refusal(sources, f"{kind}://models/none", tmp_path)
    assert f"there is nothing at {kind}://other/x" in refusal(sources, f"{kind}://other/x", tmp_path)
    assert f"{kind}://models/half has no {WEIGHTS}" in refusal(sources, f"{kind}://models/half", tmp_path)
    small = Sources(tmp_path, replace(OPEN, max_bytes=20), environment=environment | there)
    for key in ("team/support", "team/support.tar.gz"):
        assert "limit of 20 bytes" in refusal(small, f"{kind}://models/{key}", tmp_path)


@pytest.mark.parametrize(
    ("kind", "nobody"),
    [
        (
            "s3",
            {
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_SHARED_CREDENTIALS_FILE": "none",
                "AWS_CONFIG_FILE": "none",
            },
        ),
        ("gs", {"GOOGLE_APPLICATION_CREDENTIALS": "/none.json", "FSSPEC_GS_TOKEN": "google_default"}),
    ],
    ids=["s3", "gs"],
)
def test_a_bucket_without_an_account(
    tmp_path: Path, environment: dict[str, str], kind: str, nobody: dict[str, str]
) -> None:
    """An environment that names no account is told as that."""
    sources = Sources(tmp_path, OPEN, environment=environment | nobody)
    assert "names no account" in refusal(sources, f"{kind}://models/team/support", tmp_path)


def test_a_hub(tmp_path: Path, environment: dict[str, str], adapter: dict[str, bytes]) -> None:
    """The adapter's files come, of one commit, which stands in the source; other files do not."""
    repository = {**adapter, "README.md": b"hello", "adapter_model.bin": b"pickle"}
    with model_hub({"org/support": repository}) as url:
        sources = Sources(tmp_path, OPEN, environment=environment | {"HF_ENDPOINT": url})
        for text in ("hf://org/support", "hf://org/support@main", f"hf://org/support@{COMMIT}"):
            with opened(sources, text, tmp_path) as fetched:
                assert {path.name: path.read_bytes() for path in fetched.folder.iterdir()} == adapter
                assert fetched.source == f"hf://org/support@{COMMIT}"


def test_a_hub_that_fails(tmp_path: Path, environment: dict[str, str], adapter: dict[str, bytes]) -> None:
    """What is missing, too large, private or out of reach is told with what to do."""
    with model_hub({"org/support": adapter, "org/pickled": {CONFIG: b"{}"}}) as url:
        there = environment | {"HF_ENDPOINT": url}
        sources = Sources(tmp_path, OPEN, environment=there)
        assert "there is no hf://org/none" in refusal(sources, "hf://org/none", tmp_path)
        assert "no such revision" in refusal(sources, "hf://org/support@v9", tmp_path)
        assert f"has no {WEIGHTS}" in refusal(sources, "hf://org/pickled", tmp_path)
        small = Sources(tmp_path, replace(OPEN, max_bytes=20), environment=there)
        assert "limit of 20 bytes" in refusal(small, "hf://org/support", tmp_path)
        offline = Sources(tmp_path, OPEN, environment=there | {"HF_HUB_OFFLINE": "1"})
        assert "HF_HUB_OFFLINE" in refusal(offline, "hf://org/support", tmp_path)
    with model_hub({"org/support": adapter}, private=True) as url:
        there = environment | {"HF_ENDPOINT": url, "HF_HOME": str(tmp_path / "hf")}
        assert "set HF_TOKEN" in refusal(
            Sources(tmp_path, OPEN, environment=there), "hf://org/support", tmp_path
        )
        known = Sources(tmp_path, OPEN, environment=there | {"HF_TOKEN": HUB_TOKEN})
        with opened(known, "hf://org/support", tmp_path) as fetched:
            assert sorted(path.name for path in fetched.folder.iterdir()) == [CONFIG, WEIGHTS]


def test_a_hub_that_sends_more_than_it_says(
    tmp_path: Path, environment: dict[str, str], adapter: dict[str, bytes]
) -> None:
    """The reading process writes no file far above the limit, whatever the hub's library does."""
    large = {**adapter, WEIGHTS: bytes(70 * 1024 * 1024)}
    with model_hub({"org/support": large}, understates=WEIGHTS) as url:
        there = environment | {"HF_ENDPOINT": url}
        small = Sources(tmp_path, replace(OPEN, max_bytes=1000), environment=there)
        assert "larger than the limit of 1000 bytes" in refusal(small, "hf://org/support", tmp_path)


MISSING = {
    "s3://models/x": ("s3fs", r"pip install 'turnout\[s3\]'"),
    "gs://models/x": ("gcsfs", r"pip install 'turnout\[gs\]'"),
    "hf://org/repo": ("huggingface_hub", r"pip install 'turnout\[hf\]'"),
}


@pytest.mark.parametrize("text", MISSING)
def test_a_package_that_is_missing(tmp_path: Path, environment: dict[str, str], text: str) -> None:
    """A source whose package is not installed says what to install."""
    package, words = MISSING[text]
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / f"{package}.py").write_text("raise ImportError('not here')", encoding="utf-8")
    environment["PYTHONPATH"] = str(tmp_path / "path")
    with (
        pytest.raises(SourceRefused, match=words),
        Sources(tmp_path, OPEN, environment=environment).open(text),
    ):
        pass


def test_a_reader_that_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that ends without an answer is a refusal, logged with its exit code."""
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(adapter_entries(tmp_path / "made")))
    monkeypatch.setattr(fetching.sys, "executable", "/bin/false")
    assert "ended unexpectedly" in refusal(Sources(tmp_path, OPEN), str(path), tmp_path)


def test_a_full_disk(tmp_path: Path, environment: dict[str, str]) -> None:
    """A disk that is full where sources are unpacked is an OSError, not the source's fault."""
    path = tmp_path / "a.tar"
    path.write_bytes(tar_of(adapter_entries(tmp_path / "made")))
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "sitecustomize.py").write_text(
        "import errno, pathlib\n"
        "real = pathlib.Path.open\n"
        "def full(path, mode='r', *args, **more):\n"
        "    if 'x' in mode:\n"
        "        raise OSError(errno.ENOSPC, 'full')\n"
        "    return real(path, mode, *args, **more)\n"
        "pathlib.Path.open = full\n",
        encoding="utf-8",
    )
    environment["PYTHONPATH"] = str(tmp_path / "path")
    with (
        pytest.raises(OSError, match="No space left"),
        Sources(tmp_path, OPEN, environment=environment).open(str(path)),
    ):
        pass
    assert list((tmp_path / "incoming").glob("*")) == []
