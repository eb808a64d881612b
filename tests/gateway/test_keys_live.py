"""Keys in running gateways: what holds in every worker, and while the store is away."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.core.requests import Role
from gateway.store.database import StoreUnavailable
from tests.gateway.harness import Gateway, running, settings_for, wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def two(tmp_path: Path) -> Iterator[list[Gateway]]:
    """Two gateways on one store."""
    settings = settings_for(tmp_path)
    with running(settings) as one, running(settings) as other:
        yield [one, other]


def status(gateway: Gateway, key: str) -> int:
    """What a key gets."""
    return httpx.get(f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {key}"}).status_code


def test_a_change_holds_everywhere(two: list[Gateway]) -> None:
    """A key that is made, rotated or revoked through one worker is so in the other by its next poll."""
    admin = two[0].store.key(Role.ADMIN)
    for gateway in two:
        gateway.settle()
    with httpx.Client(base_url=two[0].url, headers={"Authorization": f"Bearer {admin}"}) as http:
        made = http.post("/admin/keys", json={"roles": ["inference"]}).json()
        for gateway in two:
            wait_until(lambda gateway=gateway: status(gateway, made["key"]) == 200)  # type: ignore[misc]
        fresh = http.post(f"/admin/keys/{made['id']}/rotate", json={"grace_hours": 1}).json()
        for gateway in two:
            wait_until(lambda gateway=gateway: status(gateway, fresh["key"]) == 200)  # type: ignore[misc]
            assert status(gateway, made["key"]) == 200
        http.delete(f"/admin/keys/{made['id']}")
    for gateway in two:
        wait_until(lambda gateway=gateway: status(gateway, made["key"]) == 401)  # type: ignore[misc]
        assert status(gateway, fresh["key"]) == 401


def test_while_the_store_is_away(two: list[Gateway], monkeypatch: pytest.MonkeyPatch) -> None:
    """Known keys go on and then stop with 503, an unknown one gets 503 at once; afterwards all is well."""
    gateway = two[0]
    monkeypatch.setattr(gateway.app.state.gateway.watcher, "_keys_last_s", 0.5)
    known = gateway.store.key(Role.INFERENCE)
    unknown = f"tk-{'0' * 12}-{'A' * 32}"
    gateway.settle()
    wait_until(lambda: (status(gateway, known), status(gateway, unknown)) == (200, 401))
    control = gateway.app.state.gateway.control
    there = control.generation

    def away(*_: Any) -> int:
        raise StoreUnavailable("switched off")

    monkeypatch.setattr(control, "generation", away)
    wait_until(lambda: status(gateway, unknown) == 503)
    wait_until(lambda: status(gateway, known) == 503)
    answer = httpx.get(f"{gateway.url}/v1/models", headers={"Authorization": f"Bearer {known}"})
    assert (answer.json()["error"]["code"], answer.headers["retry-after"]) == ("keys_lapsed", "5")
    assert httpx.get(f"{gateway.url}/v1/models").status_code == 401
    assert (status(two[1], known), status(two[1], unknown)) == (200, 401)
    monkeypatch.setattr(control, "generation", there)
    wait_until(lambda: status(gateway, known) == 200)
    wait_until(lambda: status(gateway, unknown) == 401)
