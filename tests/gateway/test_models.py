"""`/v1/models` with more names than fit a page."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gateway.api.errors import install_error_handlers
from gateway.api.models import build_router
from gateway.core.refs import BASE, VersionRef
from gateway.core.requests import Principal, Role
from gateway.core.routes import Capture
from gateway.core.scopes import Scope
from gateway.routing.table import RouteEntry, RoutingTable

PRINCIPAL = Principal("k", "t", frozenset({Role.INFERENCE}))
NAMES = ["a-route", "z-route", "Base-1B", *sorted(f"support@{n}" for n in range(1, 13))]


def client_of(principal: Principal) -> TestClient:
    """A client of a service with two routes, a base model and twelve versions."""
    entry = RouteEntry("x", (), "subject", Capture(), None, {})
    table = RoutingTable(
        generation=1,
        base_model="Base-1B",
        routes={"z-route": entry, "a-route": entry},
        versions=frozenset(VersionRef("support", n) for n in range(1, 13)),
        placement={BASE: ()},
        replica_urls={},
        keys={},
    )
    app = FastAPI()
    install_error_handlers(app)
    app.include_router(build_router(authenticate=lambda _: principal, table=lambda: table, created=1))
    return TestClient(app)


@pytest.fixture
def client() -> TestClient:
    """A client whose key may use everything."""
    return client_of(PRINCIPAL)


def scoped(*patterns: str) -> TestClient:
    """A client whose key may use these."""
    return client_of(Principal("k", "t", frozenset({Role.INFERENCE}), scope=Scope(patterns)))


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 15, 100])
def test_pages_make_the_whole_list(client: TestClient, limit: int) -> None:
    """Routes, the base model, then versions, each once, however they are cut into pages."""
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = client.get("/v1/models", params={"limit": limit, **after}).json()
        seen += [card["id"] for card in page["data"]]
        if not page["has_more"]:
            break
        assert len(page["data"]) == limit
        after = {"after": page["last_id"]}
    assert seen == NAMES


def test_a_page_after_what_has_gone(client: TestClient) -> None:
    """A name that is not there any more has its place all the same; past the end there is nothing."""
    page = client.get("/v1/models", params={"after": "b-route-that-went"}).json()
    assert page["data"][0]["id"] == "z-route"
    page = client.get("/v1/models", params={"after": "zzz@1"}).json()
    assert (page["data"], page["has_more"], page["last_id"]) == ([], False, None)


LISTED = [
    (["a-route"], ["a-route"]),
    (["*-route", "base"], ["a-route", "z-route", "Base-1B"]),
    (["support@1*"], []),
    (["support@1", "support@11"], ["support@1", "support@11"]),
    (["*", "*@*", "base"], NAMES),
    ([], []),
]


@pytest.mark.parametrize(("patterns", "names"), LISTED)
def test_only_what_the_key_may_use_is_listed(patterns: list[str], names: list[str]) -> None:
    """The list holds the key's names alone, page by page too, and no card names a hidden base model."""
    client = scoped(*patterns)
    seen: list[str] = []
    after: dict[str, str] = {}
    while True:
        page = client.get("/v1/models", params={"limit": 2, **after}).json()
        seen += [card["id"] for card in page["data"]]
        assert all(card["parent"] in (None, "Base-1B") for card in page["data"])
        assert "base" in patterns or all(card["parent"] is None for card in page["data"])
        if not page["has_more"]:
            break
        after = {"after": page["last_id"]}
    assert seen == names


@pytest.mark.parametrize("dialect", [{}, {"anthropic-version": "2023-06-01"}])
@pytest.mark.parametrize("hidden", ["z-route", "Base-1B", "support@3"])
def test_a_hidden_card_is_an_unknown_one(hidden: str, dialect: dict[str, str]) -> None:
    """A name that the key may not use gets the answer of a name that nobody has, but for the name itself."""
    client = scoped("a-route")
    there = client.get(f"/v1/models/{hidden}", headers=dialect)
    nobody = client.get("/v1/models/nobody", headers=dialect)
    assert there.status_code == nobody.status_code == 404
    assert there.text.replace(hidden, "X") == nobody.text.replace("nobody", "X")
    assert client.get("/v1/models/a-route", headers=dialect).status_code == 200


def test_anthropics_form(client: TestClient) -> None:
    """With Anthropic's header the list has its form, pages forth and back, and errors are in its dialect."""
    headers = {"anthropic-version": "2023-06-01"}
    page = client.get("/v1/models", params={"limit": 3}, headers=headers).json()
    assert page["data"][0] == {
        "type": "model",
        "id": "a-route",
        "display_name": "a-route",
        "created_at": "1970-01-01T00:00:01Z",
    }
    assert (page["first_id"], page["last_id"], page["has_more"]) == (NAMES[0], NAMES[2], True)
    following = {"limit": 3, "after_id": NAMES[2]}
    page = client.get("/v1/models", params=following, headers=headers).json()
    assert [card["id"] for card in page["data"]] == NAMES[3:6]
    before = {"limit": 2, "before_id": NAMES[3]}
    page = client.get("/v1/models", params=before, headers=headers).json()
    assert ([card["id"] for card in page["data"]], page["has_more"]) == (NAMES[1:3], True)
    before = {"limit": 5, "before_id": NAMES[1]}
    page = client.get("/v1/models", params=before, headers=headers).json()
    assert ([card["id"] for card in page["data"]], page["has_more"]) == (NAMES[:1], False)
    refused = client.get("/v1/models/none", headers=headers).json()
    assert (refused["type"], refused["error"]["type"]) == ("error", "not_found_error")
    refused = client.get("/v1/models", params={"limit": 0}, headers=headers).json()
    assert (refused["type"], refused["error"]["type"]) == ("error", "invalid_request_error")
