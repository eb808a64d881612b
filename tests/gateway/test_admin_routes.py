"""`/admin/routes`: specs, generations, promotion, rollback and history."""

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import update

from gateway.store.schema import routes
from tests.adapters.folders import BASE_NAME
from tests.gateway.admin_harness import AdminService, admin_service

ROUTE = "/admin/routes/support"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for the module."""
    with admin_service(tmp_path_factory.mktemp("admin")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API with two versions of `support`; its first route has all traffic on `support@1`."""
    admin = service.reset()
    admin.adapter(seed=0)
    admin.adapter(seed=1)
    return admin


def spec(*labels: str, **more: Any) -> dict[str, Any]:
    """Return a body with equal shares for these arms."""
    arms = [{"adapter": label, "share": 1 / len(labels)} for label in labels]
    return {"spec": {"arms": arms, **more}}


def arms_of(route: dict[str, Any]) -> dict[str, float]:
    """Return the arms of a route by version."""
    return {arm["adapter"]: arm["share"] for arm in route["spec"]["arms"]}


def test_the_first_route(admin: AdminService) -> None:
    """The first version of a name gets a route of that name; its ETag is the spec's generation."""
    answer = admin.http.get(ROUTE)
    route = answer.json()
    assert arms_of(route) == {"support@1": 1.0}
    assert route["status"]["state"] == "preparing"
    assert answer.headers["etag"] == f'"{route["generation"]}"'
    assert admin.call("GET", "/admin/routes")[1]["data"] == [route]


def test_routes_are_paged(admin: AdminService) -> None:
    """Pages follow each other by name, each once, to a null; `after` need not be a route."""
    for name in ("a", "b", "t"):
        admin.call("PUT", f"/admin/routes/{name}", json=spec("base"))
    seen, after = [], ""
    while True:
        page = admin.call("GET", f"/admin/routes?limit=2{after}")[1]
        seen.append([route["name"] for route in page["data"]])
        if page["next_after"] is None:
            break
        after = f"&after={page['next_after']}"
    assert seen == [["a", "b"], ["support", "t"]]
    assert [route["name"] for route in admin.call("GET", "/admin/routes?after=s")[1]["data"]] == seen[1]
    assert [admin.call("GET", f"/admin/routes?{wrong}")[0] for wrong in ("limit=1001", "after=%00")] == [
        400
    ] * 2


def test_putting_a_spec(admin: AdminService) -> None:
    """A new spec is 202 with a higher generation; the same again is 200 and moves nothing."""
    before = admin.call("GET", ROUTE)[1]
    answer = admin.http.put(ROUTE, json=spec("support@1", "support@2"), params={"why": "a test"})
    after = answer.json()
    assert answer.status_code == 202
    assert after["generation"] > before["generation"]
    assert answer.headers["etag"] == f'"{after["generation"]}"'
    admin.activate("support")
    status, again = admin.call("PUT", ROUTE, json=spec("support@1", "support@2"))
    assert (status, again["generation"], again["status"]["state"]) == (200, after["generation"], "active")
    assert admin.call("GET", f"{ROUTE}/history")[1]["data"][1]["why"] == "a test"


def test_a_stored_spec_that_breaks_a_check(admin: AdminService) -> None:
    """The route is shown with its fault and serves on, can't be promoted, and is well when put anew."""
    admin.activate("support")
    shown = admin.call("GET", ROUTE)[1]
    broken = {**shown["spec"], "metrics": {"Thumbs!": {"type": "bool"}}}
    with admin.control.database.write() as connection:
        connection.execute(update(routes).where(routes.c.name == "support").values(spec=broken))
    found = admin.call("GET", ROUTE)[1]
    assert "Thumbs!" in found["fault"]
    assert found["status"]["effective_arms"] == shown["status"]["effective_arms"]
    assert admin.call("GET", "/admin/routes")[1]["data"] == [found]
    status, refusal = admin.call("POST", f"{ROUTE}/promote", json={"adapter": "support@2"})
    assert (status, "put it anew" in refusal["error"]["message"]) == (422, True)
    status, mended = admin.call("PUT", ROUTE, json=found)
    assert (status, mended["fault"], mended["spec"]) == (202, None, shown["spec"])


def test_what_get_shows_can_be_put(admin: AdminService) -> None:
    """The document of GET, and the spec alone, are accepted; the status in it is not written."""
    shown = admin.call("GET", ROUTE)[1]
    shown["status"]["state"] = "active"
    assert admin.call("PUT", ROUTE, json=shown)[0] == 200
    assert admin.call("PUT", ROUTE, json=shown["spec"])[0] == 200
    assert admin.call("GET", ROUTE)[1]["status"]["state"] == "preparing"


IF_MATCH = [
    ('"{now}"', 202),
    ("{now}", 202),
    ('W/"{now}"', 202),
    ("*", 202),
    ('"999"', 412),
    ('"first"', 400),
    ("0", 400),
]


@pytest.mark.parametrize(("header", "status"), IF_MATCH)
def test_if_match(admin: AdminService, header: str, status: int) -> None:
    """A spec that was changed by somebody else meanwhile is not overwritten."""
    now = admin.call("GET", ROUTE)[1]["generation"]
    got, body = admin.call("PUT", ROUTE, json=spec("support@2"), headers={"If-Match": header.format(now=now)})
    assert got == status
    if status == 412:
        assert body["error"]["code"] == "generation_mismatch"
        assert f"is at generation {now}" in body["error"]["message"]


def test_if_match_on_no_route(admin: AdminService) -> None:
    """Nothing matches a route that does not exist."""
    for header in ("*", '"1"'):
        status, body = admin.call(
            "PUT", "/admin/routes/new", json=spec("support@1"), headers={"If-Match": header}
        )
        assert (status, "does not exist" in body["error"]["message"]) == (412, True)


REFUSED: list[tuple[str, dict[str, Any], int, str]] = [
    (
        "support",
        spec("support@9"),
        422,
        "support@9 does not exist (the newest version of support is support@2)",
    ),
    ("support", spec("none@1"), 422, "none@1 does not exist"),
    ("support", spec("support@1", canary={"candidate": "support@7"}), 422, "support@7"),
    ("support", spec("support@1", fallback="gone@1"), 422, "gone@1"),
    ("base", spec("support@1"), 422, "'base'"),
    ("Support", spec("support@1"), 422, "can't name a route"),
    (BASE_NAME.lower(), spec("support@1"), 422, "are taken"),
    ("support", {**spec("support@1"), "name": "other"}, 422, "the path 'support'"),
    ("support", {"spec": {"arms": []}}, 400, "spec.arms"),
    ("support", {"spec": {"arms": [{"adapter": "support@1", "share": 0.5}]}}, 400, "add up to 0.5"),
    ("support", {"spec": {"arms": [{"adapter": "support", "share": 1}]}}, 400, "'support@3'"),
    ("support", spec("support@1", stickiness="subject"), 400, "stickiness"),
    ("support", {}, 400, "spec: Field required"),
]


@pytest.mark.parametrize(("route", "body", "status", "words"), REFUSED)
def test_specs_that_are_refused(
    admin: AdminService, route: str, body: dict[str, Any], status: int, words: str
) -> None:
    """A spec that can't be served or read is refused with the place of the fault; the route stays."""
    before = admin.call("GET", "/admin/routes")[1]
    got, answer = admin.call("PUT", f"/admin/routes/{route}", json=body)
    assert got == status, answer
    assert words in answer["error"]["message"]
    assert admin.call("GET", "/admin/routes")[1] == before


def test_a_retired_version_can_not_be_routed(admin: AdminService) -> None:
    """A spec that names a retired version is refused, by rollback too."""
    admin.call("PUT", ROUTE, json=spec("support@2"))
    admin.activate("support")
    assert admin.call("DELETE", "/admin/adapters/support/1")[0] == 200
    status, body = admin.call("PUT", ROUTE, json=spec("support@1"))
    assert (status, "support@1 is retired" in body["error"]["message"]) == (422, True)
    assert admin.call("POST", f"{ROUTE}/rollback")[0] == 422


def test_the_base_model_may_be_an_arm(admin: AdminService) -> None:
    """`base` stands for the base model and needs no version."""
    assert admin.call("PUT", "/admin/routes/plain", json=spec("base"))[0] == 202


def test_promote(admin: AdminService) -> None:
    """All traffic goes to the named version, or to the canary's candidate; the rest of the spec stays."""
    admin.call("PUT", ROUTE, json=spec("support@1", sticky="key", canary={"candidate": "support@2"}))
    status, route = admin.call("POST", f"{ROUTE}/promote")
    assert (status, arms_of(route), route["spec"]["canary"]) == (202, {"support@2": 1.0}, None)
    assert route["spec"]["sticky"] == "key"
    status, body = admin.call("POST", f"{ROUTE}/promote")
    assert (status, "no canary" in body["error"]["message"]) == (422, True)
    assert admin.call("POST", f"{ROUTE}/promote", json={"adapter": "support@2"})[0] == 200
    assert arms_of(admin.call("POST", f"{ROUTE}/promote", json={"adapter": "base"})[1]) == {"base": 1.0}
    assert admin.call("POST", f"{ROUTE}/promote", json={"adapter": "support"})[0] == 422
    assert admin.call("POST", f"{ROUTE}/promote", json={"adapter": "support@8"})[0] == 422
    assert admin.call("POST", "/admin/routes/none/promote", json={"adapter": "support@1"})[0] == 404


def test_rollback(admin: AdminService) -> None:
    """Without a generation the spec before comes back, and a second rollback undoes the first."""
    first = admin.call("GET", ROUTE)[1]["generation"]
    assert admin.call("POST", f"{ROUTE}/rollback")[0] == 422
    admin.call("PUT", ROUTE, json=spec("support@2"))
    admin.activate("support")
    status, route = admin.call("POST", f"{ROUTE}/rollback", params={"why": "worse"})
    assert (status, arms_of(route)) == (202, {"support@1": 1.0})
    assert arms_of(admin.call("POST", f"{ROUTE}/rollback")[1]) == {"support@2": 1.0}
    admin.call("PUT", ROUTE, json=spec("support@1", "support@2"))
    status, route = admin.call("POST", f"{ROUTE}/rollback", json={"to_generation": first})
    assert (status, arms_of(route)) == (202, {"support@1": 1.0})
    status, body = admin.call("POST", f"{ROUTE}/rollback", json={"to_generation": 10_000})
    assert (status, "generation 10000" in body["error"]["message"]) == (422, True)
    assert admin.call("POST", "/admin/routes/none/rollback")[0] == 404


def test_promote_and_rollback_honour_if_match(admin: AdminService) -> None:
    """A stale generation is refused by every change of a route."""
    for action, body in (("promote", {"adapter": "support@2"}), ("rollback", None)):
        admin.call("PUT", ROUTE, json=spec("support@2"))
        status, _ = admin.call("POST", f"{ROUTE}/{action}", json=body, headers={"If-Match": '"1"'})
        assert status == 412


def test_history_says_who_what_and_why(admin: AdminService) -> None:
    """Every change is there, newest first, in pages, and stays when the route is deleted."""
    admin.call("PUT", ROUTE, json=spec("support@2"), headers={"X-Turnout-Why": "better"})
    admin.activate("support")
    page = admin.call("GET", f"{ROUTE}/history?limit=2")[1]
    assert [event["action"] for event in page["data"]] == ["route.flip", "route.put"]
    assert page["data"][1]["why"] == "better"
    assert page["data"][1]["before"]["arms"][0]["adapter"] == "support@1"
    rest = admin.call("GET", f"{ROUTE}/history?before_id={page['next_before_id']}")[1]
    assert [event["action"] for event in rest["data"]] == ["route.put"]
    assert rest["next_before_id"] is None
    assert admin.call("DELETE", ROUTE, params={"why": "over"}) == (204, None)
    assert admin.call("DELETE", ROUTE)[0] == 404
    assert admin.call("GET", ROUTE)[0] == 404
    newest = admin.call("GET", f"{ROUTE}/history")[1]["data"][0]
    assert (newest["action"], newest["why"]) == ("route.delete", "over")
    assert admin.call("GET", "/admin/routes/none/history")[0] == 404
