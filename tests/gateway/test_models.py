"""`/v1/models` with more names than fit a page."""

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from gateway.api.models import build_router
from gateway.core.refs import BASE, VersionRef
from gateway.core.requests import Principal, Role
from gateway.core.routes import Capture
from gateway.routing.table import RouteEntry, RoutingTable

PRINCIPAL = Principal("k", "t", frozenset({Role.INFERENCE}))
NAMES = ["a-route", "z-route", "Base-1B", *sorted(f"support@{n}" for n in range(1, 13))]


@pytest.fixture
def client() -> TestClient:
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
    app.include_router(build_router(authenticate=lambda _: PRINCIPAL, table=lambda: table, created=1))
    return TestClient(app)


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
