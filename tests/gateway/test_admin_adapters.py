"""`/admin/adapters`, and what every endpoint of `/admin` has in common."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.requests import RequestRow, Role
from tests.adapters.folders import make_adapter
from tests.gateway.admin_harness import INCARNATION, REPLICA, AdminService, admin_service

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for the module."""
    with admin_service(tmp_path_factory.mktemp("admin")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API on empty stores."""
    return service.reset()


ENDPOINTS = [
    ("GET", "/admin/adapters"),
    ("POST", "/admin/adapters"),
    ("POST", "/admin/adapters/gc"),
    ("GET", "/admin/adapters/support/1"),
    ("DELETE", "/admin/adapters/support/1"),
    ("POST", "/admin/adapters/support/1/verify"),
    ("GET", "/admin/routes"),
    ("GET", "/admin/routes/support"),
    ("PUT", "/admin/routes/support"),
    ("DELETE", "/admin/routes/support"),
    ("GET", "/admin/routes/support/history"),
    ("GET", "/admin/routes/support/feedback"),
    ("GET", "/admin/routes/support/signals"),
    ("GET", "/admin/routes/support/shadow"),
    ("POST", "/admin/routes/support/promote"),
    ("POST", "/admin/routes/support/rollback"),
    ("GET", "/admin/routes/support/plan"),
    ("POST", "/admin/routes/support/pause"),
    ("POST", "/admin/routes/support/resume"),
    ("POST", "/admin/routes/support/abort"),
    ("GET", "/admin/experiments/support"),
    ("GET", "/admin/experiments/support/outcomes"),
    ("GET", "/admin/status"),
    ("GET", "/admin/replicas"),
    ("GET", "/admin/usage"),
    ("GET", "/admin/events"),
    ("GET", "/admin/drift"),
    ("POST", "/admin/drift/run"),
    ("GET", "/admin/keys"),
    ("POST", "/admin/keys"),
    ("GET", "/admin/keys/none"),
    ("DELETE", "/admin/keys/none"),
    ("POST", "/admin/keys/none/rotate"),
    ("GET", "/admin/loop"),
    ("GET", "/admin/loop/runs"),
    ("GET", "/admin/loop/loop-1"),
    ("POST", "/admin/loop/loop-1/approve"),
    ("POST", "/admin/loop/loop-1/reject"),
    ("POST", "/admin/loop/support/pause"),
    ("POST", "/admin/loop/support/resume"),
    ("POST", "/admin/loop/support/run"),
    ("GET", "/admin/limits"),
    ("GET", "/admin/limits/tenant/support"),
    ("PUT", "/admin/limits/tenant/support"),
    ("DELETE", "/admin/limits/tenant/support"),
    ("GET", "/admin/curation"),
    ("GET", "/admin/curation/rows"),
    ("GET", "/admin/curation/rows/row-1"),
    ("POST", "/admin/curation/decisions"),
    ("GET", "/admin/golden"),
    ("GET", "/admin/golden/support"),
    ("POST", "/admin/golden/support/rows"),
    ("POST", "/admin/golden/support/rotate"),
    ("GET", "/admin/adapters/support/1/lineage"),
    ("GET", "/admin/requests/req-1/versions"),
    ("GET", "/admin/forget"),
    ("POST", "/admin/forget"),
    ("POST", "/admin/forget/sweep"),
]


def test_every_endpoint_needs_an_administrator(admin: AdminService) -> None:
    """Without a key 401, with a key that lacks the role 403, in OpenAI's form, whatever the body."""
    poor = admin.key_with(Role.INFERENCE, Role.FEEDBACK)
    for method, path in ENDPOINTS:
        nobody = httpx.request(method, admin.url + path, json={} if method in {"POST", "PUT"} else None)
        assert nobody.status_code == 401, (method, path)
        assert nobody.json()["error"]["code"] == "invalid_api_key"
        assert nobody.headers["www-authenticate"] == "Bearer"
        status, body = admin.call(method, path, headers={"Authorization": f"Bearer {poor}"})
        assert (status, body["error"]["code"]) == (403, "insufficient_permissions"), (method, path)


def test_the_table_of_endpoints_is_whole(admin: AdminService) -> None:
    """OpenAPI documents every endpoint with a model, its errors and the bearer scheme; none is untested."""
    document = admin.call("GET", "/openapi.json")[1]
    described = {
        (method.upper(), path): entry
        for path, methods in document["paths"].items()
        for method, entry in methods.items()
        if path.startswith("/admin")
    }
    fill = {
        "name": "support",
        "version": "1",
        "route": "support",
        "key_id": "none",
        "run": "loop-1",
        "scope": "tenant",
        "row_id": "row-1",
        "request_id": "req-1",
    }
    assert {(method, path.format(**fill)) for method, path in described} == set(ENDPOINTS)
    for entry in described.values():
        assert entry["summary"]
        assert entry["description"]
        assert entry["security"]
        assert "403" in entry["responses"]
        good = [code for code in entry["responses"] if code.startswith("2")]
        assert good
        assert all("content" in entry["responses"][code] for code in good if code != "204")


def test_adding_a_version(admin: AdminService) -> None:
    """New content is 201 and the next number; known content 200 and the same version."""
    source = make_adapter(admin.folder / "one")
    body = {"name": "support", "source": str(source), "why": "a first try"}
    status, first = admin.call("POST", "/admin/adapters", json=body)
    assert status == 201
    assert (first["adapter"], first["rank"], first["routes"]) == ("support@1", 4, ["support"])
    assert first["manifest"]["digest"] == first["digest"]
    assert admin.call("POST", "/admin/adapters", json=body)[0] == 200
    other = {"name": "support", "source": str(make_adapter(admin.folder / "two", seed=1))}
    status, second = admin.call("POST", "/admin/adapters", json=other)
    assert (status, second["adapter"]) == (201, "support@2")
    event = admin.call("GET", "/admin/events?subject=support@1")[1]["data"][-1]
    assert (event["action"], event["why"]) == ("adapter.add", "a first try")
    assert event["actor"] in {key["id"] for key in admin.call("GET", "/admin/keys")[1]["data"]}


REFUSED: dict[str, tuple[Callable[[Path], dict[str, Any]], int, str]] = {
    "a relative path": (lambda _: {"name": "x", "source": "some/where"}, 422, "relative"),
    "no such folder": (lambda at: {"name": "x", "source": str(at / "none")}, 422, "is not a folder"),
    "an empty folder": (lambda at: {"name": "x", "source": str(at)}, 422, "adapter_config.json"),
    "a rank too high": (
        lambda at: {"name": "x", "source": str(make_adapter(at / "big", rank=32))},
        422,
        "above the fleet's maximum of 16",
    ),
    "a reserved name": (
        lambda at: {"name": "base", "source": str(make_adapter(at / "good"))},
        422,
        "'base' is taken",
    ),
    "no source": (lambda _: {"name": "x"}, 400, "source: Field required"),
    "a field too many": (lambda at: {"name": "x", "source": str(at), "force": True}, 400, "force"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(admin: AdminService, tmp_path: Path, case: str) -> None:
    """What can't be added is refused with the reason, and nothing is stored."""
    make, status, words = REFUSED[case]
    (sources := tmp_path / "sources").mkdir()
    got, body = admin.call("POST", "/admin/adapters", json=make(sources))
    assert got == status
    assert words in body["error"]["message"]
    assert body["error"]["type"] == "invalid_request_error"
    assert admin.call("GET", "/admin/adapters")[1]["data"] == []


def test_what_is_no_json_is_refused(admin: AdminService) -> None:
    """A body that is not JSON, and one that is too large, are refused without being repeated."""
    status, body = admin.call(
        "POST", "/admin/adapters", content=b'{"secret', headers={"Content-Type": "application/json"}
    )
    assert (status, body["error"]["message"]) == (400, "the body is not valid JSON")
    status, body = admin.call("POST", "/admin/adapters", content=b"[" * 2_000_000)
    assert (status, body["error"]["code"]) == (413, "request_too_large")


def test_unknown_paths_and_methods(admin: AdminService) -> None:
    """The router's own refusals are OpenAI errors too."""
    assert admin.call("GET", "/admin/none")[1]["error"]["code"] == "not_found"
    answer = admin.http.delete("/admin/adapters")
    assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"]


def test_the_list_is_paged(admin: AdminService) -> None:
    """Pages follow each other without overlap and end with null; a name narrows them."""
    for seed in range(3):
        admin.adapter("a", seed=seed)
    admin.adapter("b", seed=9)
    page = admin.call("GET", "/admin/adapters?limit=3")[1]
    assert [row["adapter"] for row in page["data"]] == ["a@3", "a@2", "a@1"]
    assert page["next_offset"] == 3
    page = admin.call("GET", "/admin/adapters?limit=3&offset=3")[1]
    assert [row["adapter"] for row in page["data"]] == ["b@1"]
    assert page["next_offset"] is None
    assert len(admin.call("GET", "/admin/adapters?name=a")[1]["data"]) == 3
    assert admin.call("GET", "/admin/adapters?limit=0")[0] == 400


def test_paging_by_the_last_row(admin: AdminService) -> None:
    """`after` goes on behind a version, within a name and over names, to the end."""
    for name, seed in (("a", 0), ("a", 1), ("a", 2), ("b", 3)):
        admin.adapter(name, seed=seed)
    seen, after = [], ""
    while True:
        page = admin.call("GET", f"/admin/adapters?limit=2{after}")[1]
        seen.append([row["adapter"] for row in page["data"]])
        if page["next_after"] is None:
            break
        after = f"&after={page['next_after']}"
    assert seen == [["a@3", "a@2"], ["a@1", "b@1"]]
    assert admin.call("GET", "/admin/adapters?after=nothing")[0] == 422
    assert admin.call("GET", "/admin/adapters?name=a&after=a@2")[1]["data"][0]["adapter"] == "a@1"


def test_what_a_version_was_used_for(admin: AdminService) -> None:
    """Requests, errors and tokens of the last day, or since a time; internal requests do not count."""
    admin.adapter()
    now = time.time()
    rows = [(now - 10, 200, False), (now - 20, 500, False), (now - 90_000, 200, False), (now, 200, True)]
    admin.requests.write(
        [
            RequestRow(
                f"req-{int(at):08x}{n:024x}",
                at,
                "chat",
                adapter="support@1",
                status=status,
                internal=internal,
                prompt_tokens=10,
                completion_tokens=5,
            )
            for n, (at, status, internal) in enumerate(rows)
        ]
    )
    day = admin.call("GET", "/admin/adapters")[1]["data"][0]["usage"]
    assert (day["requests"], day["errors"], day["prompt_tokens"], day["completion_tokens"]) == (2, 1, 20, 10)
    ever = admin.call("GET", "/admin/adapters?since=0")[1]["data"][0]["usage"]
    assert (ever["requests"], ever["since"]) == (3, 0)
    assert admin.call("GET", "/admin/adapters/support/1")[1]["usage"]["requests"] == 2


def test_cold_loads_and_evictions(admin: AdminService) -> None:
    """What placement counted of a version stands in the list; zero where nothing was counted."""
    ref, other = admin.adapter(seed=0), admin.adapter(seed=1)
    admin.controller()
    admin.control.placement.set_homes({}, cold_loaded={ref}, evicted={ref}, epoch=admin.epoch)
    rows = {row["adapter"]: row for row in admin.call("GET", "/admin/adapters")[1]["data"]}
    counted = {label: (row["cold_loads"], row["evictions"]) for label, row in rows.items()}
    assert counted == {str(ref): (1, 1), str(other): (0, 0)}


def test_where_a_version_is_served(admin: AdminService) -> None:
    """A version shows each replica with its state, and whether that was the engine's present incarnation."""
    ref = admin.adapter()
    admin.controller()
    admin.register(ref, "attested")
    shown = admin.call("GET", "/admin/adapters/support/1")[1]
    assert [(r["replica"], r["state"], r["current"]) for r in shown["registrations"]] == [
        ("r0", "attested", True)
    ]
    assert admin.call("GET", "/admin/adapters/support/2")[0] == 404
    assert admin.call("GET", "/admin/adapters/support/0")[0] == 404


def test_retiring(admin: AdminService) -> None:
    """A version that a route names can't be retired; another can, once and again, and stays in the list."""
    admin.adapter(seed=0)
    admin.adapter(seed=1)
    status, body = admin.call("DELETE", "/admin/adapters/support/1")
    assert (status, body["error"]["code"]) == (409, "in_use")
    status, body = admin.call("DELETE", "/admin/adapters/support/2", headers={"X-Turnout-Why": "poor"})
    assert status == 200
    assert body["retired_at"] is not None
    assert admin.call("DELETE", "/admin/adapters/support/2")[1]["retired_at"] == body["retired_at"]
    assert admin.call("DELETE", "/admin/adapters/support/3")[0] == 404
    events = admin.call("GET", "/admin/events?subject=support@2")[1]["data"]
    assert [(event["action"], event["why"]) for event in events] == [
        ("adapter.retire", "poor"),
        ("adapter.add", None),
    ]


def test_a_version_that_traffic_still_meets_is_in_use(admin: AdminService) -> None:
    """While the successor is prepared, the version that answers can't be retired."""
    admin.adapter(seed=0)
    admin.activate("support")
    admin.adapter(seed=1)
    spec = {"arms": [{"adapter": "support@2", "share": 1}]}
    assert admin.call("PUT", "/admin/routes/support", json={"spec": spec})[0] == 202
    assert admin.call("DELETE", "/admin/adapters/support/1")[0] == 409
    admin.activate("support")
    assert admin.call("DELETE", "/admin/adapters/support/1")[0] == 200


def test_a_store_that_does_not_answer(admin: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken store is 503 with Retry-After, and the message says nothing of its inside."""
    from gateway.store.database import StoreUnavailable

    def broken(**_: object) -> None:
        raise StoreUnavailable("no such table: secrets")

    monkeypatch.setattr(admin.control.routes, "page", broken)
    answer = admin.http.get("/admin/routes")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["code"] == "store_unavailable"
    assert "secrets" not in answer.text


def test_a_fault_of_ours(admin: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw is a plain 500 that says nothing of its inside."""

    def broken(**_: object) -> None:
        raise RuntimeError("the password is swordfish")

    monkeypatch.setattr(admin.control.routes, "page", broken)
    status, body = admin.call("GET", "/admin/routes")
    assert (status, body["error"]["code"]) == (500, "internal_error")
    assert "swordfish" not in str(body)


def test_a_source_that_can_not_be_read_and_a_full_disk(
    admin: AdminService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unreadable source is the caller's matter (422); a blob that can't be written is ours (500)."""
    source = make_adapter(admin.folder / "one")
    body = {"name": "support", "source": str(source)}

    def refuse(error: OSError) -> None:
        def add(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr(admin.registry, "add", add)

    refuse(PermissionError(13, "Permission denied", str(source / "adapter_config.json")))
    assert admin.call("POST", "/admin/adapters", json=body)[0] == 422
    refuse(OSError(28, "No space left on device", str(admin.folder / "adapters")))
    status, answer = admin.call("POST", "/admin/adapters", json=body)
    assert (status, "No space left" in answer["error"]["message"]) == (500, True)


def test_where_a_version_is_at_home(admin: AdminService) -> None:
    """A version shows its home, an estimate of residency where the engine's room is known, and its counts."""
    ref = admin.adapter()
    admin.controller()
    admin.register(ref)
    admin.control.fleet.observe(
        REPLICA,
        epoch=admin.epoch,
        healthy=True,
        incarnation=INCARNATION,
        capacity={"max_loras": 1, "max_cpu_loras": 1},
    )
    admin.control.placement.set_homes({ref: (REPLICA,)}, cold_loaded={ref}, epoch=admin.epoch)
    found = admin.call("GET", "/admin/adapters")[1]["data"][0]
    (where,) = found["registrations"]
    assert (where["home"], where["resident_estimate"]) == (True, True)
    assert (found["cold_loads"], found["evictions"]) == (1, 0)
