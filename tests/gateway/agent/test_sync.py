"""From a registry through a bucket to an engine on another machine, with the controller in between."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.bucket import Bucket, BucketError, NotInBucket
from adapters.manifest import BaseIdentity
from adapters.publishing import publisher
from adapters.registry import Registry, digest_of
from gateway.agent.server import build
from gateway.controller.agents import Agents
from gateway.supervise.engine import free_port
from tests import fake_engine
from tests.adapters.folders import BASE_NAME, make_adapter
from tests.adapters.sources.servers import gs, s3
from tests.gateway.admin_harness import Server
from tests.gateway.agent.places import Place
from tests.gateway.controller_house import House

KEY = "swordfish-of-agents"
PARTS = ("adapter_model.safetensors", "adapter_config.json")
URL = "s3://models/turnout"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """The engine's machine."""
    made = Place(tmp_path)
    yield made
    made.cache.close()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    """A bucket of moto's S3, to which the environment leads."""
    with s3(lambda _: None) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        yield Bucket(URL)


@pytest.mark.slow
def test_a_version_waits_until_its_blob_is_beside_the_engine(
    tmp_path: Path, place: Place, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is registered and attested only when the agent has it whole, and stays when the agent is gone."""
    monkeypatch.setattr("gateway.controller.reconcile.RETRY_FIRST_S", 0.0)
    place.cache.close()
    place.bucket = bucket  # type: ignore[assignment]
    place.start()
    with fake_engine.start() as engine:
        house = House(tmp_path, engine)
        house.requests_db.migrate()
        house.store.fleet.set_replicas({"replica-0": (engine.url, str(place.root))})
        ref = house.add("support", seed=1)
        name = house.blob(ref).name
        with Server(build(place.cache, key=KEY, max_bytes=1)) as server:
            port = int(server.url.rpartition(":")[2])
            house.agents = lambda http: Agents(http, port=port, key=KEY)
            house.turns()
            assert (house.rows(ref), engine.adapters) == ([], [])
            place.settled(name, engine.incarnation)
            house.turns()
            assert "publish_to" in (house.rows(ref)[0].reason or "")
            bucket.put(house.blob(ref), f"sha256:{name}")
            place.now += 60
            house.turns()
            place.settled(name, engine.incarnation)
            house.turns()
            (row,) = house.rows(ref)
            assert (row.state, engine.adapters) == ("attested", ["support@1"])
            assert (row.figures or {})["digest"] == "verified"
            assert set(place.files(name)) == set(PARTS)
            assert place.cache._marks.get(name).incarnation == engine.incarnation
        house.turns(attest_every_s=0.0)
        assert house.states(ref) == {"replica-0": "attested"}
        house.database.close()


@pytest.mark.slow
def test_the_process(tmp_path: Path) -> None:
    """`turnout agent` brings blobs, passes its engine's metrics on, logs as JSON, and ends at SIGTERM."""
    source = make_adapter(tmp_path / "source")
    digest = digest_of(source)
    Bucket(str(tmp_path / "shared")).put(source, digest)
    port = free_port()
    with fake_engine.start() as engine:
        command = [sys.executable, "-m", "gateway", "agent", "--registry", str(tmp_path / "shared")]
        command += ["--root", str(tmp_path / "root"), "--engine-url", engine.url, "--port", str(port)]
        environment = {**os.environ, "TURNOUT_ENGINE__AGENT_KEY": KEY}
        log = tmp_path / "agent.log"
        with (
            log.open("wb") as output,
            subprocess.Popen(command, env=environment, stderr=output) as process,
            httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http,
        ):
            try:
                for _ in range(600):
                    with suppress(httpx.TransportError):
                        if http.get("/healthz").is_success:
                            break
                    assert process.poll() is None
                    threading.Event().wait(0.05)
                wanted: dict[str, Any] = {
                    "json": {"incarnation": "1"},
                    "headers": {"Authorization": f"Bearer {KEY}"},
                }
                states = []
                while "whole" not in states and len(states) < 600:
                    states.append(http.put(f"/v1/blobs/{digest[7:]}", **wanted).json()["state"])
                    threading.Event().wait(0.05)
                assert states[-1] == "whole"
                assert http.get("/metrics").text.startswith("#")
                assert "turnout_agent_fetched_bytes_total" in http.get("/agent/metrics").text
            finally:
                process.terminate()
                assert process.wait(20) in {0, -signal.SIGTERM}
    lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert {line["process"] for line in lines} == {"agent"}
    assert KEY not in log.read_text(encoding="utf-8")


@pytest.mark.slow
def test_an_adapter_is_published_before_it_has_a_version(
    tmp_path: Path, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a version is there, agents find its blob; where it can't be published, nothing is added.

    A gateway whose engines all have agents keeps no blob itself.
    """
    house = House(tmp_path)
    registry = Registry(
        tmp_path / "adapters",
        house.store.versions,
        base=BaseIdentity(name=BASE_NAME),
        max_rank=16,
        publish=publisher(URL, timeout_s=60),
    )
    row, _ = registry.add("support", make_adapter(tmp_path / "one", seed=1), actor="test")
    assert bucket.sizes(row.digest) == {
        part: (registry.path(row.digest) / part).stat().st_size for part in PARTS
    }
    elsewhere = Registry(
        tmp_path / "elsewhere",
        house.store.versions,
        base=BaseIdentity(name=BASE_NAME),
        max_rank=16,
        publish=publisher(URL, timeout_s=60),
        keep=False,
    )
    again, new = elsewhere.add("support", make_adapter(tmp_path / "one", seed=1), actor="test")
    assert (again.ref, new) == (row.ref, False)
    assert not (tmp_path / "elsewhere" / "blobs").exists()
    assert not list((tmp_path / "elsewhere" / "incoming").iterdir())
    target = tmp_path / "part"
    whole = (registry.path(row.digest) / PARTS[0]).read_bytes()
    target.write_bytes(whole[:7])
    bucket.get(row.digest, PARTS[0], target, size=len(whole))
    assert target.read_bytes() == whole
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    with pytest.raises(BucketError, match="s3://models/turnout can't be") as refused:
        registry.add("support", make_adapter(tmp_path / "two", seed=2), actor="test")
    assert "testing-secret" not in str(refused.value)
    assert [str(each.ref) for each in house.store.versions.rows()] == ["support@1"]
    assert not list((tmp_path / "adapters" / "incoming").iterdir())
    house.database.close()


@pytest.mark.slow
def test_a_bucket_of_cloud_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`gs://` takes blobs and gives them, also the rest of one that came in part."""
    source = make_adapter(tmp_path / "source")
    digest = digest_of(source)
    target = tmp_path / "part"
    whole = (source / PARTS[0]).read_bytes()
    target.write_bytes(whole[:7])
    with gs(lambda _: None) as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        bucket = Bucket("gs://models/turnout")
        with pytest.raises(NotInBucket, match="has no blob"):
            bucket.sizes(digest)
        bucket.put(source, digest)
        assert bucket.sizes(digest) == {part: (source / part).stat().st_size for part in PARTS}
        bucket.get(digest, PARTS[0], target, size=len(whole))
    assert target.read_bytes() == whole


def test_a_shared_folder_is_a_bucket(tmp_path: Path) -> None:
    """Blobs are put there once, whole, and found by digest; one that is missing says so."""
    source = make_adapter(tmp_path / "source")
    digest = digest_of(source)
    bucket = Bucket(str(tmp_path / "shared"))
    with pytest.raises(NotInBucket, match="has no blob"):
        bucket.sizes(digest)
    for _ in range(2):
        bucket.put(source, digest)
    place = tmp_path / "shared" / "blobs" / digest.removeprefix("sha256:")
    assert {path.name for path in place.iterdir()} == set(PARTS)
    (place / PARTS[1]).unlink()
    with pytest.raises(NotInBucket):
        bucket.sizes(digest)
    with pytest.raises(BucketError, match="less of"):
        bucket.get(digest, PARTS[0], tmp_path / "x", size=10**6)
    with pytest.raises(BucketError, match="nothing that fsspec knows"):
        Bucket("colour://x/y")


def test_publishing_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An add does not wait for ever for a bucket that does not answer."""

    def hang(*_: object, **options: float) -> None:
        raise subprocess.TimeoutExpired("x", options["timeout"])

    monkeypatch.setattr("adapters.publishing.subprocess.run", hang)
    with pytest.raises(BucketError, match="within 3 s") as late:
        publisher(URL, timeout_s=3)(tmp_path, "sha256:ab")
    assert late.value.errno is not None
    assert os.strerror(late.value.errno)
