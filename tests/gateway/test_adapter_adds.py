"""Adding through the admin API: followed line by line, beside other work, whatever becomes of the client."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api import adapter_adds, admin_adapters
from tests.adapters.folders import make_adapter
from tests.adapters.sources.tars import PACK, adapter_entries, tar_of
from tests.gateway.admin_harness import AdminService, admin_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for the module."""
    with admin_service(tmp_path_factory.mktemp("adds")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API on empty stores."""
    return service.reset()


def lines_of(
    admin: AdminService, source: Path | str, *, hear: Callable[[dict[str, Any]], None] = lambda _: None
) -> list[dict[str, Any]]:
    """Add an adapter and return the lines that were told meanwhile; `hear` gets each when it comes."""
    body = {"name": "support", "source": str(source)}
    headers = {"accept": "application/x-ndjson"}
    with admin.http.stream("POST", "/admin/adapters", json=body, headers=headers) as answer:
        assert answer.status_code == 200
        lines = []
        for line in answer.iter_lines():
            lines.append(json.loads(line))
            hear(lines[-1])
        return lines


def test_following_an_add(admin: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks for lines hears of the progress, and in the last one of the version or the refusal."""
    monkeypatch.setattr(admin_adapters, "BEAT_S", 0.01)
    told = threading.Event()
    source = make_adapter(admin.folder / "followed")
    real = admin.registry.add

    def slow(*args: Any, **more: Any) -> Any:
        more["progress"]("checking", 5, 10)
        assert told.wait(30)
        return real(*args, **more)

    monkeypatch.setattr(admin.registry, "add", slow)
    wanted = {"stage": "checking", "done_bytes": 5, "total_bytes": 10}
    *progress, last = lines_of(admin, source, hear=lambda line: told.set() if line == wanted else None)
    assert wanted in progress
    assert (last["status"], last["adapter"]["adapter"]) == (201, "support@1")
    assert lines_of(admin, source)[-1]["status"] == 200
    refused = lines_of(admin, "s3://UPPER/x")[-1]
    assert (refused["status"], refused["error"]["code"]) == (422, "source_refused")


def test_a_tar_and_its_source(admin: AdminService) -> None:
    """A tar on the gateway's machine is added, and its path is the version's source."""
    path = admin.folder / "a.tar.gz"
    path.write_bytes(PACK["tar.gz"](tar_of(adapter_entries(admin.folder / "packed"))))
    status, body = admin.call("POST", "/admin/adapters", json={"name": "support", "source": str(path)})
    assert (status, body["source"], body["state"]) == (201, str(path), "stored")
    assert list((admin.registry.root / "incoming").glob("*")) == []


def test_a_client_that_leaves_stops_nothing(admin: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """An add goes on without its client, and asking again finds what it made."""
    source = make_adapter(admin.folder / "left")
    begun, go_on = threading.Event(), threading.Event()
    real = admin.registry.add

    def held(*args: Any, **more: Any) -> Any:
        begun.set()
        go_on.wait(30)
        return real(*args, **more)

    monkeypatch.setattr(admin.registry, "add", held)
    body = {"name": "support", "source": str(source)}
    with httpx.Client(base_url=admin.url, headers=admin.http.headers, timeout=60) as client:
        stream = client.stream(
            "POST", "/admin/adapters", json=body, headers={"accept": "application/x-ndjson"}
        )
        with stream:
            assert begun.wait(30)
    go_on.set()
    deadline = time.monotonic() + 30
    while not admin.control.versions.rows():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert admin.call("POST", "/admin/adapters", json=body)[0] == 200


def test_too_many_adds_at_once(admin: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond what may wait, an add is 429; other endpoints answer meanwhile."""
    monkeypatch.setattr(adapter_adds, "WAITING", -3)
    begun, go_on = threading.Event(), threading.Event()
    real = admin.registry.add

    def held(*args: Any, **more: Any) -> Any:
        begun.set()
        go_on.wait(30)
        return real(*args, **more)

    monkeypatch.setattr(admin.registry, "add", held)
    body = {"name": "support", "source": str(make_adapter(admin.folder / "held"))}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(
            httpx.post, f"{admin.url}/admin/adapters", json=body, headers=admin.http.headers, timeout=60
        )
        assert begun.wait(30)
        refused = admin.http.post("/admin/adapters", json=body)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "10")
        assert admin.call("GET", "/admin/adapters")[0] == 200
        go_on.set()
        assert first.result().status_code == 201


def test_a_store_that_fails_while_adding(admin: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that can't be numbered is 503 and leaves no blob."""
    from gateway.store.database import StoreUnavailable

    def broken(*_: object, **__: object) -> None:
        raise StoreUnavailable("disk I/O error at /var/secret")

    monkeypatch.setattr(admin.control.versions, "add", broken)
    body = {"name": "support", "source": str(make_adapter(admin.folder / "unlucky", seed=77))}
    before = set((admin.registry.root / "blobs").glob("*"))
    answer = admin.http.post("/admin/adapters", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "store_unavailable")
    assert "secret" not in answer.text
    assert set((admin.registry.root / "blobs").glob("*")) == before
