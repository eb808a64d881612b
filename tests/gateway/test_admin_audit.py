"""What changes anything under /admin leaves an event: who, from where, why, and what was before and after.

The operations are read from the OpenAPI document, so that a new one can't be forgotten here.
"""

import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from adapters import collect
from gateway.api import admin as admin_module
from gateway.api.admin_drift import MonitorRuns
from gateway.core.routes import RouteSpec
from gateway.store import clock
from gateway.store.tombstones import unit_of
from tests.adapters.folders import make_adapter
from tests.gateway.admin_harness import AdminService, admin_service
from tests.gateway.store.test_curation import row
from tests.gateway.store.test_forgetting import rating, request

ROUTE = "/admin/routes/support"
CANARY = {"candidate": "support@2", "steps": [0.4], "min_units": 10, "guardrails": {"errors": 0.1}}
GOLDEN = {"rows": [{"messages": [{"role": "user", "content": "q"}], "answer": "a"}]}
Prepare = Callable[[AdminService], Any]


class Act(NamedTuple):
    """One operation, with what has to be there, and what its event has.

    `path` may name what `prepare` returned. Who makes something finds nothing before it, and who removes it
    leaves nothing behind.
    """

    operation: str
    path: str
    action: str
    prepare: Prepare = lambda _: None
    body: Any = None
    before: bool = True
    after: bool = True


def _key(admin: AdminService) -> str:
    return str(admin.call("POST", "/admin/keys", json={"roles": ["feedback"]})[1]["id"])


def _version(admin: AdminService) -> None:
    admin.adapter()


def _registered(admin: AdminService) -> None:
    admin.controller()
    admin.register(admin.adapter())


def _retired(admin: AdminService) -> None:
    admin.adapter()
    admin.call("DELETE", ROUTE)
    admin.call("DELETE", "/admin/adapters/support/1")


def _two_specs(admin: AdminService) -> None:
    admin.adapter()
    admin.adapter(seed=1)
    admin.call("PUT", ROUTE, json={"arms": [{"adapter": "support@2", "share": 1.0}]})


def _canary(admin: AdminService) -> None:
    admin.adapter()
    admin.adapter(seed=1)
    admin.call("PUT", ROUTE, json={"arms": [{"adapter": "support@1", "share": 1}], "canary": CANARY})
    admin.begin_canary("support")


def _paused_canary(admin: AdminService) -> None:
    _canary(admin)
    admin.call("POST", f"{ROUTE}/pause")


def _loop(admin: AdminService) -> None:
    admin.adapter()
    admin.call("PUT", ROUTE, json={"arms": [{"adapter": "support@1", "share": 1}], "loop": {}})
    admin.activate("support")


def _paused_loop(admin: AdminService) -> None:
    _loop(admin)
    admin.call("POST", "/admin/loop/support/pause")


def _waiting_run(admin: AdminService) -> str:
    """A run that asks whether it may train."""
    _loop(admin)
    name = str(admin.call("POST", "/admin/loop/support/run")[1]["id"])
    known = admin.control.loops.get(name)
    assert known is not None
    assert admin.control.loops.change(known, actor="controller", state="waiting_approval")
    return name


def _rows(admin: AdminService) -> None:
    """A route with one request, its rating, and a row of it."""
    unit = unit_of("r", "ann")
    spec = RouteSpec.model_validate({"arms": [{"adapter": "base", "share": 1}]})
    admin.control.routes.put("r", spec, actor="test")
    admin.requests.write([request("req-1", unit)])
    admin.control.feedback.add(rating("req-1", unit))
    admin.control.curation.propose([row(1, unit=unit)])


def _golden(admin: AdminService) -> None:
    _rows(admin)
    admin.call("POST", "/admin/golden/r/rows", json=GOLDEN)


def _limited(admin: AdminService) -> None:
    admin.call("PUT", "/admin/limits/tenant/shop", json={"concurrent": 1})


ACTS = (
    Act("POST /admin/adapters", "/admin/adapters", "adapter.add", body="source", before=False),
    Act("POST /admin/adapters/gc", "/admin/adapters/gc", "blob.remove", _retired),
    Act("DELETE /admin/adapters/{name}/{version}", "/admin/adapters/support/1", "adapter.retire", _two_specs),
    Act(
        "POST /admin/adapters/{name}/{version}/verify",
        "/admin/adapters/support/1/verify",
        "adapter.verify",
        _registered,
    ),
    Act(
        "PUT /admin/routes/{route}", ROUTE, "route.put", _version, {"arms": [{"adapter": "base", "share": 1}]}
    ),
    Act("DELETE /admin/routes/{route}", ROUTE, "route.delete", _version, after=False),
    Act("POST /admin/routes/{route}/promote", f"{ROUTE}/promote", "route.promote", _canary),
    Act("POST /admin/routes/{route}/rollback", f"{ROUTE}/rollback", "route.rollback", _two_specs),
    Act("POST /admin/routes/{route}/pause", f"{ROUTE}/pause", "route.canary", _canary),
    Act("POST /admin/routes/{route}/resume", f"{ROUTE}/resume", "route.canary", _paused_canary),
    Act("POST /admin/routes/{route}/abort", f"{ROUTE}/abort", "route.flip", _canary),
    Act("POST /admin/keys", "/admin/keys", "key.create", body={}, before=False),
    Act("DELETE /admin/keys/{key_id}", "/admin/keys/{}", "key.revoke", _key),
    Act("POST /admin/keys/{key_id}/rotate", "/admin/keys/{}/rotate", "key.rotate", _key),
    Act(
        "PUT /admin/limits/{scope}/{name}",
        "/admin/limits/tenant/shop",
        "limits.set",
        _limited,
        {"concurrent": 2},
    ),
    Act(
        "DELETE /admin/limits/{scope}/{name}",
        "/admin/limits/tenant/shop",
        "limits.set",
        _limited,
        after=False,
    ),
    Act("POST /admin/loop/{run}/approve", "/admin/loop/{}/approve", "loop.approve", _waiting_run),
    Act("POST /admin/loop/{run}/reject", "/admin/loop/{}/reject", "loop.reject", _waiting_run),
    Act("POST /admin/loop/{route}/pause", "/admin/loop/support/pause", "loop.pause", _loop),
    Act("POST /admin/loop/{route}/resume", "/admin/loop/support/resume", "loop.resume", _paused_loop),
    Act("POST /admin/loop/{route}/run", "/admin/loop/support/run", "loop.proposed", _loop, before=False),
    Act("POST /admin/drift/run", "/admin/drift/run", "drift.run", _version, before=False),
    Act(
        "POST /admin/curation/decisions",
        "/admin/curation/decisions",
        "curation.reject",
        _rows,
        {"decision": "reject", "ids": ["row-1"]},
    ),
    Act("POST /admin/golden/{route}/rows", "/admin/golden/r/rows", "golden.add", _rows, GOLDEN),
    Act("POST /admin/golden/{route}/rotate", "/admin/golden/r/rotate", "golden.rotate", _golden),
    Act("POST /admin/forget", "/admin/forget", "subject.forgotten", _rows, {"subject": "ann"}),
    Act("POST /admin/forget/sweep", "/admin/forget/sweep", "subject.forgotten", _rows),
)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AdminService]:
    """One server for the module; what starts a drift run starts nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admin_module, "monitoring_installed", lambda: True)
        patch.setattr(MonitorRuns, "start", lambda self, _: self._report_root / "run.log")
        with admin_service(tmp_path_factory.mktemp("admin")) as running:
            yield running


@pytest.mark.parametrize("act", ACTS, ids=[act.operation for act in ACTS])
def test_a_change_leaves_an_event(service: AdminService, act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its event has the key, its address and the reason, and the documents that are to be had."""
    admin = service.reset()
    prepared = act.prepare(admin)
    seen = {event.id for event in admin.control.events.rows()}
    if act.action == "blob.remove":
        later = SimpleNamespace(time=lambda: time.time() + 2 * collect.RETENTION_S)
        for module in (collect, clock):
            monkeypatch.setattr(module, "time", later)
    body = act.body
    if body == "source":
        body = {"name": "support", "source": str(make_adapter(admin.folder / "source"))}
    method = act.operation.partition(" ")[0]
    there = {"params": {"why": "because"}, "headers": {"X-Forwarded-For": "192.0.2.7"}}
    status, answer = admin.call(method, act.path.format(prepared), json=body, **there)
    assert status < 300, answer
    new = [event for event in admin.control.events.rows() if event.id not in seen]
    (event,) = [event for event in new if event.action == act.action]
    assert {(one.actor, one.address) for one in new} == {(admin.key.split("-")[1], "192.0.2.7")}
    assert event.why == "because"
    assert ((event.before is not None), (event.after is not None)) == (act.before, act.after)
    assert event.before != event.after


def test_no_operation_is_left_out(service: AdminService) -> None:
    """Every operation of the document that is no reading is one of these."""
    paths = service.reset().call("GET", "/openapi.json")[1]["paths"]
    changing = {
        f"{method.upper()} {path}"
        for path, methods in paths.items()
        for method in methods
        if method not in ("get", "head") and path.startswith("/admin/")
    }
    assert changing == {act.operation for act in ACTS}
