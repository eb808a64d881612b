"""`/admin/limits`, and a key's limits under `/admin/keys`."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.gateway.admin_harness import AdminService, admin_service

NONE = {
    "requests_per_minute": None,
    "tokens_per_minute": None,
    "concurrent": None,
    "tokens_per_day": None,
    "tokens_per_month": None,
    "max_tokens": None,
    "max_body_bytes": None,
    "weight": 1.0,
    "priority": "normal",
}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for the module."""
    with admin_service(tmp_path_factory.mktemp("admin")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API on empty stores."""
    return service.reset()


def test_they_are_set_shown_and_taken_away(admin: AdminService) -> None:
    """PUT replaces all of somebody's limits, GET shows them with what is spent, DELETE takes them away."""
    assert admin.call("GET", "/admin/limits") == (200, {"data": []})
    for name in ("shop", "*", "a/b c"):
        path = f"/admin/limits/tenant/{name}"
        assert admin.call("GET", path)[0] == 404
        assert admin.call("PUT", path, json={"concurrent": 3})[0] == 200
        status, put = admin.call("PUT", path, json={"tokens_per_day": 50, "weight": 2, "priority": "high"})
        wanted = {**NONE, "tokens_per_day": 50, "weight": 2.0, "priority": "high"}
        assert (status, put["limits"]) == (200, wanted)
        assert (put["scope"], put["name"], put["spent_day"], put["spent_month"]) == ("tenant", name, 0, None)
        assert admin.call("GET", path) == (200, put)
    admin.control.limits.exchange("w", 1, lambda _: ({}, ()), spend={("tenant", "shop", "day"): 12})
    listed = admin.call("GET", "/admin/limits")[1]["data"]
    assert [(one["name"], one["spent_day"]) for one in listed] == [("*", 0), ("a/b c", 0), ("shop", 12)]
    assert admin.call("DELETE", "/admin/limits/tenant/shop")[0] == 200
    assert admin.call("DELETE", "/admin/limits/tenant/shop")[0] == 404
    actions = [event["action"] for event in admin.call("GET", "/admin/events?subject=tenant:shop")[1]["data"]]
    assert actions == ["limits.set"] * 3


def test_a_keys_own(admin: AdminService) -> None:
    """A key is made with limits, shows them, keeps them when it is rotated, and gets others."""
    made = admin.call("POST", "/admin/keys", json={"limits": {"requests_per_minute": 5}})[1]
    assert made["limits"] == {**NONE, "requests_per_minute": 5}
    path = f"/admin/limits/key/{made['id']}"
    assert admin.call("GET", path)[1]["limits"] == made["limits"]
    assert admin.call("POST", f"/admin/keys/{made['id']}/rotate")[1]["limits"] == made["limits"]
    assert admin.call("PUT", path, json={"max_tokens": 9})[0] == 200
    assert admin.call("GET", f"/admin/keys/{made['id']}")[1]["limits"] == {**NONE, "max_tokens": 9}
    assert admin.call("DELETE", path)[0] == 200
    assert admin.call("GET", f"/admin/keys/{made['id']}")[1]["limits"] is None
    assert admin.call("PUT", "/admin/limits/key/nobody", json={"max_tokens": 9})[0] == 404
    assert admin.call("PUT", "/admin/limits/key/*", json={"max_tokens": 9})[0] == 200


REFUSED: list[tuple[str, dict[str, Any], int]] = [
    ("tenant/shop", {"requests_per_minute": 0}, 400),
    ("tenant/shop", {"requests_per_minute": 1.5}, 400),
    ("tenant/shop", {"tokens_per_day": 2**60}, 400),
    ("tenant/shop", {"weight": 0}, 400),
    ("tenant/shop", {"weight": 1e9}, 400),
    ("tenant/shop", {"priority": "highest"}, 400),
    ("tenant/shop", {"speed": 1}, 400),
    ("planet/mars", {"concurrent": 1}, 400),
    (f"tenant/{'x' * 65}", {"concurrent": 1}, 400),
    ("tenant/a%07b", {"concurrent": 1}, 422),
    ("route/support", {"weight": 2}, 422),
    ("key/*", {"priority": "low"}, 422),
]


@pytest.mark.parametrize(("owner", "body", "status"), REFUSED)
def test_what_is_refused(admin: AdminService, owner: str, body: dict[str, Any], status: int) -> None:
    """What is no limit, nobody's, or not theirs changes nothing."""
    assert admin.call("PUT", f"/admin/limits/{owner}", json=body)[0] == status
    assert admin.call("GET", "/admin/limits")[1] == {"data": []}
