"""Who gets into /admin, where from, and what is said of those who do not."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.api.admin_access import TOLD_EVERY_S, Refusals
from gateway.core.requests import Role
from gateway.telemetry import Telemetry
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


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """A server that asks for no key."""
    with admin_service(tmp_path_factory.mktemp("open"), open_access=True) as running:
        yield running


def test_every_change_says_who_and_from_where(admin: AdminService) -> None:
    """Each admin action leaves the key's id and label, the address, and the documents before and after."""
    made = admin.call("POST", "/admin/keys", json={"roles": ["admin"], "label": "ops: Ann"})[1]
    version = admin.adapter()
    admin.adapter(seed=1)
    as_ann = {"Authorization": f"Bearer {made['key']}", "X-Forwarded-For": "127.0.0.1, 192.0.2.7"}
    spec = {"arms": [{"adapter": "support@2", "share": 1.0}]}
    actions: list[tuple[str, str, dict[str, Any], str, bool, bool]] = [
        ("POST", "/admin/keys", {"json": {}}, "key.create", False, True),
        ("PUT", "/admin/routes/support", {"json": spec}, "route.put", True, True),
        ("POST", "/admin/routes/support/rollback", {}, "route.rollback", True, True),
        ("DELETE", "/admin/routes/support", {}, "route.delete", True, False),
        ("DELETE", f"/admin/adapters/support/{version.version}", {}, "adapter.retire", True, True),
        ("POST", f"/admin/keys/{made['id']}/rotate", {}, "key.rotate", True, True),
    ]
    for method, path, body, action, before, after in actions:
        status, answer = admin.call(method, path, headers=as_ann, params={"why": "because"}, **body)
        assert status < 300, (path, answer)
        event = admin.call("GET", "/admin/events")[1]["data"][0]
        assert (event["action"], event["actor"]) == (action, made["id"])
        assert (event["actor_name"], event["address"]) == ("ops: Ann", "192.0.2.7")
        assert ((event["before"] is not None), (event["after"] is not None)) == (before, after), action
        assert action == "key.create" or event["why"] == "because"


def test_an_address_can_not_be_made_up(admin: AdminService) -> None:
    """What stands in X-Forwarded-For before the trusted proxy's own entry is not believed."""
    admin.call("POST", "/admin/keys", json={}, headers={"X-Forwarded-For": "6.6.6.6, 198.51.100.2"})
    assert admin.call("GET", "/admin/events")[1]["data"][0]["address"] == "198.51.100.2"


def test_the_log_as_it_is_copied_elsewhere(admin: AdminService) -> None:
    """From any event on the log comes oldest first, whole, page by page, and can be narrowed down."""
    for number in range(5):
        admin.control.events.add(actor=f"a{number % 2}", action="x", subject=str(number))
    everything = [event["id"] for event in admin.call("GET", "/admin/events")[1]["data"]][::-1]
    found, after = [], 0
    while after is not None:
        page = admin.call("GET", "/admin/events", params={"after_id": after, "limit": 2})[1]
        found += [event["id"] for event in page["data"]]
        assert page["next_before_id"] is None
        after = page["next_after_id"]
    assert found == everything
    rows = admin.call("GET", "/admin/events", params={"actor": "a1", "action": "x"})[1]["data"]
    assert [row["subject"] for row in rows] == ["3", "1"]
    assert admin.call("GET", "/admin/events", params={"since": 4e9})[1]["data"] == []
    for params in ({"after_id": -1}, {"after_id": 2**63}, {"before_id": 2**63}):
        assert admin.call("GET", "/admin/events", params=params)[0] == 400


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Host": "localhost:8080"}, 200),
        ({"Host": "[::1]:8080"}, 200),
        ({"Host": "rebound.example.com"}, 403),
        ({"Host": "127.0.0.1.example.com"}, 403),
        ({"Host": "192.168.0.10"}, 403),
        ({"Origin": "http://localhost:3000"}, 200),
        ({"Origin": "https://evil.example.com"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
    ],
)
def test_without_keys_admin_is_for_this_machine(
    opened: AdminService, headers: dict[str, str], status: int
) -> None:
    """While no key is asked for, neither another site's page nor a rebound name gets anything."""
    answer = httpx.get(f"{opened.url}/admin/routes", headers=headers)
    assert answer.status_code == status


def test_two_keys_in_one_request(admin: AdminService) -> None:
    """A trainer's key beside an administrator's does not make one out of two."""
    headers = [
        ("Authorization", f"Bearer {admin.key_with(Role.TRAINER)}"),
        ("Authorization", f"Bearer {admin.key}"),
    ]
    answer = httpx.get(f"{admin.url}/admin/keys", headers=headers)
    assert answer.status_code in (400, 403)


def test_refusals_are_counted_and_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Every attempt is counted; the log has the first at once, and then one line for many."""
    now = [0.0]
    telemetry = Telemetry()
    refusals = Refusals(telemetry.admin_refused, clock=lambda: now[0])
    with caplog.at_level(logging.WARNING, logger="turnout.admin"):
        for _ in range(50):
            refusals.add("key", "192.0.2.7")
        now[0] = TOLD_EVERY_S
        refusals.add("role", None)
    assert [record.getMessage() for record in caplog.records] == [
        "/admin: 1 attempts refused, the last (key) from 192.0.2.7",
        "/admin: 50 attempts refused, the last (role) from here",
    ]
    assert telemetry.admin_refused.labels("key")._value.get() == 50


def test_what_is_refused_is_told_without_secrets(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No part of a key that was tried, good or not, ever reaches the log."""
    with admin_service(tmp_path) as service, caplog.at_level(logging.DEBUG):
        for key in ("tk-aaaaaaaaaaaa-" + "B" * 32, service.key_with(Role.INFERENCE), service.key):
            httpx.get(f"{service.url}/admin/keys", headers={"Authorization": f"Bearer {key}"})
            assert key.rpartition("-")[2] not in caplog.text
