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
