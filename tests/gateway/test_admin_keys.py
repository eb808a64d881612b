"""`/admin/keys`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.requests import Role
from tests.gateway.admin_harness import AdminService, admin_service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for the module."""
    with admin_service(tmp_path_factory.mktemp("admin")) as running:
        yield running


@pytest.fixture
def admin(service: AdminService) -> AdminService:
    """The admin API on empty stores."""
    return service.reset()


def test_a_keys_text_is_shown_once(admin: AdminService) -> None:
    """The answer to POST holds the key, nothing later does, and it works."""
    body = {"roles": ["admin", "feedback"], "label": "ci", "tenant": "blue", "expires_in_days": 1}
    status, made = admin.call("POST", "/admin/keys", json=body)
    assert status == 201
    assert (made["label"], made["tenant"], made["roles"], made["valid"]) == (
        "ci",
        "blue",
        ["admin", "feedback"],
        True,
    )
    assert made["expires_at"] - made["created_at"] == pytest.approx(86_400, abs=60)
    assert made["key"].startswith(f"tk-{made['id']}-")
    everything = admin.http.get("/admin/keys").text + admin.http.get("/admin/events").text
    assert made["key"] not in everything
    assert made["key"].rpartition("-")[2] not in everything
    answer = httpx.get(f"{admin.url}/admin/keys", headers={"Authorization": f"Bearer {made['key']}"})
    assert answer.status_code == 200


REFUSED: list[dict[str, Any]] = [
    {"roles": []},
    {"roles": ["king"]},
    {"expires_in_days": 0},
    {"expires_in_days": -1},
    {"label": "x" * 129},
    {"tenant": ""},
    {"secret": "chosen"},
    {"label": "\x1b[2J"},
    {"tenant": "a\nb"},
    {"models": ["Support"]},
    {"models": ["a**"]},
    {"models": ["../a"]},
    {"models": ["support@0"]},
    {"models": "support"},
    {"models": ["a"] * 65},
    {"limits": {"requests_per_minute": 0}},
    {"limits": {"weight": 2}},
    {"limits": {"speed": 5}},
]


@pytest.mark.parametrize("body", REFUSED)
def test_keys_that_are_refused(admin: AdminService, body: dict[str, Any]) -> None:
    """A key without a role, with an unknown one, already expired or chosen by the caller is not made."""
    assert admin.call("POST", "/admin/keys", json=body)[0] == 400
    assert len(admin.call("GET", "/admin/keys")[1]["data"]) == 1


def test_a_new_key_may_only_ask_models(admin: AdminService) -> None:
    """Without roles a key has the role inference alone."""
    assert admin.call("POST", "/admin/keys", json={})[1]["roles"] == ["inference"]


def test_revoking(admin: AdminService) -> None:
    """A revoked key is refused at once, stays in the list, and can't be revoked twice."""
    made = admin.call("POST", "/admin/keys", json={"roles": ["admin"]})[1]
    status, gone = admin.call("DELETE", f"/admin/keys/{made['id']}", params={"why": "leaked"})
    assert (status, gone["valid"]) == (200, False)
    answer = httpx.get(f"{admin.url}/admin/keys", headers={"Authorization": f"Bearer {made['key']}"})
    assert answer.status_code == 401
    assert admin.call("DELETE", f"/admin/keys/{made['id']}")[0] == 404
    assert admin.call("DELETE", "/admin/keys/none")[0] == 404
    event = admin.call("GET", f"/admin/events?subject={made['id']}")[1]["data"][0]
    assert (event["action"], event["why"]) == ("key.revoke", "leaked")
    assert (event["before"]["revoked_at"], event["after"]["revoked_at"]) == (None, gone["revoked_at"])


def test_the_last_administrator_stays(admin: AdminService) -> None:
    """The last valid key with the role admin can't be revoked by a key."""
    mine = admin.call("GET", "/admin/keys")[1]["data"][0]["id"]
    status, body = admin.call("DELETE", f"/admin/keys/{mine}")
    assert (status, body["error"]["code"]) == (409, "last_admin")
    admin.key_with(Role.ADMIN)
    assert admin.call("DELETE", f"/admin/keys/{mine}")[0] == 200


def test_the_first_key_of_an_open_gateway_is_an_administrators(tmp_path: Path) -> None:
    """While nobody needs a key, one without the role admin would lock everybody out and is refused."""
    with admin_service(tmp_path, open_access=True) as service:
        assert service.call("POST", "/admin/keys", json={})[0] == 409
        made = service.call("POST", "/admin/keys", json={"roles": ["admin"]})[1]
        assert service.call("GET", "/admin/keys")[0] == 401
        headers = {"Authorization": f"Bearer {made['key']}"}
        assert service.call("GET", "/admin/keys", headers=headers)[0] == 200
        assert service.call("POST", "/admin/keys", json={}, headers=headers)[0] == 201


def test_a_key_with_a_scope(admin: AdminService) -> None:
    """Patterns are stored as they were given, shown again, and stand in the audit log."""
    models = ["support", "team-*", "support@3", "base"]
    made = admin.call("POST", "/admin/keys", json={"models": models})[1]
    assert made["models"] == models
    shown = admin.call("GET", f"/admin/keys/{made['id']}")[1]
    assert shown == {name: value for name, value in made.items() if name != "key"}
    assert admin.call("GET", f"/admin/events?subject={made['id']}")[1]["data"][0]["after"]["models"] == models
    assert admin.call("POST", "/admin/keys", json={"models": []})[1]["models"] == []
    assert admin.call("POST", "/admin/keys", json={})[1]["models"] is None
    assert admin.call("GET", "/admin/keys/none")[0] == 404


def test_keys_of_a_tenant(admin: AdminService) -> None:
    """The list can be one tenant's."""
    for tenant in ("blue", "red", "blue"):
        admin.call("POST", "/admin/keys", json={"tenant": tenant})
    listed = admin.call("GET", "/admin/keys?tenant=blue")[1]["data"]
    assert [key["tenant"] for key in listed] == ["blue", "blue"]


def bearer(key: str) -> dict[str, str]:
    """The header of a key."""
    return {"Authorization": f"Bearer {key}"}


def test_rotating(admin: AdminService) -> None:
    """Both texts work during the grace, under one id; ending both is a rotation without one."""
    made = admin.call("POST", "/admin/keys", json={"roles": ["admin"], "label": "ci"})[1]
    path = f"/admin/keys/{made['id']}/rotate"
    status, second = admin.call("POST", path, json={"grace_hours": 1, "why": "yearly"})
    assert (status, second["id"], second["label"]) == (200, made["id"], "ci")
    assert second["previous_until"] - second["rotated_at"] == pytest.approx(3600)
    for text in (made["key"], second["key"]):
        assert admin.call("GET", "/admin/keys", headers=bearer(text))[0] == 200
    status, refused = admin.call("POST", path)
    assert (status, refused["error"]["code"]) == (409, "rotation_under_way")
    third = admin.call("POST", path, json={"grace_hours": 0, "expires_in_days": 1})[1]
    assert (third["previous_until"], third["expires_at"] is None) == (None, False)
    known = [admin.call("GET", "/admin/keys", headers=bearer(key["key"]))[0] for key in (made, second, third)]
    assert known == [401, 401, 200]
    event = admin.call("GET", f"/admin/events?subject={made['id']}&action=key.rotate")[1]["data"][-1]
    assert (event["why"], event["before"]["rotated_at"]) == ("yearly", None)
    everything = admin.http.get("/admin/events").text + admin.http.get("/admin/keys").text
    for key in (made, second, third):
        assert key["key"].rpartition("-")[2] not in everything


def test_rotations_that_are_refused(admin: AdminService) -> None:
    """A key that is not there, or not valid any more, gets no new text, nor does a grace without bounds."""
    made = admin.call("POST", "/admin/keys", json={})[1]
    path = f"/admin/keys/{made['id']}/rotate"
    assert admin.call("POST", "/admin/keys/none/rotate")[0] == 404
    for body in ({"grace_hours": -1}, {"grace_hours": 721}, {"grace_hours": "x"}, {"expires_in_days": 0}):
        assert admin.call("POST", path, json=body)[0] == 400
    admin.call("DELETE", f"/admin/keys/{made['id']}")
    assert admin.call("POST", path)[0] == 404


def test_two_rotations_at_once(admin: AdminService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two at the same moment one hears that the key has changed: no text is shown that is not good."""
    made = admin.call("POST", "/admin/keys", json={})[1]
    row = admin.control.keys.get(made["id"])
    assert row is not None
    admin.call("POST", f"/admin/keys/{made['id']}/rotate", json={"grace_hours": 0})
    monkeypatch.setattr(type(admin.control.keys), "get", lambda *_: row)
    status, _ = admin.call("POST", f"/admin/keys/{made['id']}/rotate", json={"grace_hours": 0})
    assert status == 409


def test_a_trainer_adds_adapters_and_nothing_else(admin: AdminService) -> None:
    """The role trainer may add adapters and look at them; everything else of /admin is refused."""
    version = admin.adapter()
    headers = bearer(admin.key_with(Role.TRAINER))
    for method, path, status in [
        ("GET", "/admin/adapters", 200),
        ("GET", f"/admin/adapters/{version.name}/{version.version}", 200),
        ("POST", "/admin/adapters", 400),
        ("DELETE", f"/admin/adapters/{version.name}/{version.version}", 403),
        ("POST", f"/admin/adapters/{version.name}/{version.version}/verify", 403),
        ("POST", "/admin/adapters/gc", 403),
        ("GET", "/admin/routes", 403),
        ("GET", "/admin/keys", 403),
        ("POST", "/admin/keys", 403),
        ("GET", "/admin/events", 403),
    ]:
        body = {} if method == "POST" else None
        assert admin.call(method, path, json=body, headers=headers)[0] == status, (method, path)
