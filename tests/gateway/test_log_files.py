"""A whole service under traffic that goes wrong: no prompt, comment, key or password in any of its logs."""

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loadtests.common.made_adapters import make
from tests import fake_engine
from tests.fake_engine import BASE_MODEL, FakeEngine, Knobs
from tests.gateway.harness import wait_until
from tests.gateway.test_supervise_whole import Served

pytestmark = pytest.mark.slow
SECRET = "xyzzy-swordfish"
ADMIN_KEY = "plugh-" + "Adm1nKey" * 4
STRANGE_KEY = "tk-abcdef12-" + "Sw0rdfish" * 4
ECHO = f"bad input: {{'content': '{SECRET}'}}\nDETAIL: {SECRET}"
ENGINES = (
    Knobs(),
    Knobs(fail_status=500, fail_message=ECHO),
    Knobs(fail_status=400, fail_message=ECHO),
    Knobs(close_before_headers=True),
    Knobs(drop_after_chunks=1, says=SECRET * 8),
    Knobs(answer_as_base=True, says=SECRET),
)
MESSAGES = [{"role": "user", "content": f"my password is {SECRET}"}]


@pytest.fixture(params=["json", "text"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Served, FakeEngine]]:
    """A service that logs all it can, in one of both forms, with an administrator's key."""
    (tmp_path / "turnout.toml").write_text(f'[log]\nlevel = "debug"\nformat = "{request.param}"\n')
    settings = {"TURNOUT_ADMIN_KEY": ADMIN_KEY, "TURNOUT_CONFIG": str(tmp_path / "turnout.toml")}
    with fake_engine.start() as engine:
        served = Served(tmp_path, engine.url, "--no-examples", settings=settings)
        try:
            served.await_line("Turnout is ready")
            yield served, engine
        finally:
            served.process.kill()
            served.process.wait()


def test_no_secret_is_in_any_file(service: tuple[Served, FakeEngine], tmp_path: Path) -> None:
    """Good and bad requests, engines that quote them, keys made and guessed, ratings, wrong settings."""
    served, engine = service
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as http:
        admin = {"authorization": f"Bearer {ADMIN_KEY}"}
        made = http.post("/admin/keys", json={"tenant": "shop"}, headers=admin)
        assert made.status_code == 201, made.text
        key = str(made.json()["key"])
        added = http.post(
            "/admin/adapters",
            json={"name": "support", "source": str(make(tmp_path / "a", 1, base_name=BASE_MODEL))},
            headers=admin,
        )
        assert added.status_code == 201, added.text
        spec = {"arms": [{"adapter": "support@1", "share": 1.0}]}
        assert http.put("/admin/routes/support", json={"spec": spec}, headers=admin).is_success
        wait_until(lambda: _chat(http, key) == 200, 30)
        for knobs in ENGINES:
            engine.knobs = knobs
            for streamed in (False, True):
                _chat(http, key, streamed=streamed)
        engine.knobs = Knobs()
        for strange in (STRANGE_KEY, f"Basic {SECRET}", SECRET):
            assert http.get("/admin/keys", headers={"authorization": f"Bearer {strange}"}).status_code == 401
            assert http.post("/v1/messages", headers={"x-api-key": strange}, json={}).status_code == 401
        typed = {**_as(key), "content-type": "application/json"}
        said = http.post("/v1/chat/completions", content=f'{{"model": {SECRET}', headers=typed)
        assert said.status_code == 400
        rating = {"request_id": f"req-{'0' * 32}", "metric": "thumbs", "value": True, "comment": SECRET}
        assert http.post("/v1/feedback", json=rating, headers=_as(key)).status_code in (403, 404)
        refused = http.post("/admin/adapters", json={"name": "x", "source": f"/{SECRET}"}, headers=admin)
        assert refused.status_code in (400, 422)
        assert http.put(f"/admin/routes/{SECRET}", json={"spec": SECRET}, headers=admin).is_client_error
    (tmp_path / "turnout.toml").write_text(f'[auth]\nadmin_key = "{SECRET}"\nnonsense = "{SECRET}"\n')
    served.process.send_signal(signal.SIGHUP)
    served.await_line("the settings are not taken")
    engine.knobs = Knobs(healthy=False)
    served.await_line("is unhealthy")
    served.process.terminate()
    assert served.process.wait(60) == 0
    logs = [path for path in (*tmp_path.rglob("*.log"), *tmp_path.rglob("*.log.*")) if path.is_file()]
    assert served.log in logs
    for path in logs:
        text = path.read_text(encoding="utf-8")
        for secret in (SECRET, ADMIN_KEY, STRANGE_KEY.rsplit("-", 1)[1], key.rsplit("-", 1)[1]):
            assert secret not in text, (path, next(line for line in text.splitlines() if secret in line))


def _as(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def _chat(http: httpx.Client, key: str, *, streamed: bool = False) -> int:
    """Ask, whatever comes of it; return the status, 0 when the answer was broken off."""
    body = {"model": "support", "messages": MESSAGES, "stream": streamed}
    try:
        return http.post("/v1/chat/completions", json=body, headers=_as(key)).status_code
    except httpx.RemoteProtocolError:
        return 0
