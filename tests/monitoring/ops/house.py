"""A real Prometheus over a real gateway and controller with fake engines, and traffic for every metric."""

import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml

from adapters.bucket import Bucket
from adapters.registry import digest_of
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.drift import DriftRow
from gateway.store.feedback import FeedbackRow
from gateway.store.golden import GoldenRow
from gateway.store.watches import WatchRow, lease_name
from gateway.supervise.engine import free_port
from loadtests.common.made_adapters import make
from tests.fake_engine import BASE_MODEL, FakeEngine
from tests.gateway.loops import made as loops_made
from tests.gateway.store.test_curation import row as curated
from tests.gateway.test_supervise_whole import Served
from tests.monitoring.ops import shown

PATIENCE_S = 60.0
ADAPTERS = ("support", "support", "letters", "names", "codes", "dates", "towns")
SPEC = {
    "arms": [{"adapter": "support@1", "share": 1.0}],
    "canary": {
        "candidate": "support@2",
        "steps": [0.4, 0.8],
        "min_units": 5,
        "guardrails": {"errors": 0.9},
        "then": "wait",
    },
    "shadow": {"adapter": "letters@1", "share": 0.5},
    "loop": {"triggers": ["manual"]},
    "metrics": {"thumbs": {"type": "bool", "better": "higher", "primary": True, "window_h": 1}},
}
LIMITS = {"tokens_per_day": 10**9, "requests_per_minute": 5}
SETTINGS = """
[engine]
max_loras = 2
max_cpu_loras = 2
[controller]
canary_every_s = 0.5
experiments_every_s = 0.5
[placement]
pins = ["letters@1"]
stay_s = 0.1
patience_s = 0.2
[shadow]
per_minute = 6000
"""


class Prometheus:
    """A running server."""

    def __init__(self, url: str, process: "subprocess.Popen[bytes]") -> None:
        self.url = url
        self.process = process

    def ask(self, query: str) -> list[dict[str, Any]]:
        """Evaluate a query now; return its series.

        Raises:
            ValueError: the server refuses it.
        """
        found = httpx.get(f"{self.url}/api/v1/query", params={"query": query}, timeout=30).json()
        if found["status"] != "success":
            raise ValueError(f"{query}: {found.get('error')}")
        assert found["data"]["resultType"] == "vector", query
        return list(found["data"]["result"])


@contextlib.contextmanager
def agent(folder: Path, engine: FakeEngine) -> Iterator[str]:
    """Run an agent beside an engine that has brought a blob; yield where it listens."""
    source = make(folder / "published", 0, base_name=BASE_MODEL)
    digest = digest_of(source)
    Bucket(str(folder / "bucket")).put(source, digest)
    where = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "gateway", "agent", "--registry", str(folder / "bucket")]
    command += ["--root", str(folder / "beside"), "--engine-url", engine.url, "--port", where.split(":")[1]]
    with (folder / "agent.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wanted = {"incarnation": engine.incarnation}
        blob = f"http://{where}/v1/blobs/{digest.removeprefix('sha256:')}"
        _await(lambda: httpx.put(blob, json=wanted).json()["state"] == "whole")
        yield where
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@contextlib.contextmanager
def prometheus(
    program: str, folder: Path, *, gateway: str, engines: Path, agent: str
) -> Iterator[Prometheus]:
    """Run a server with the project's configuration and rules, at a test's pace, until the block ends."""
    folder.mkdir()
    config = yaml.safe_load((shown.PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(folder / "*.rules.yaml")]
    ours, vllm, agents = config["scrape_configs"]
    ours["static_configs"] = [{"targets": [gateway.removeprefix("http://")]}]
    vllm["file_sd_configs"] = [{"files": [str(engines)]}]
    agents["static_configs"] = [{"targets": [agent], "labels": {"replica": "replica-0"}}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    for path in (shown.PROMETHEUS / "rules").glob("*.yaml"):
        rules = yaml.safe_load(path.read_text())
        for group in rules["groups"]:
            group["interval"] = "1s"
        (folder / f"{path.stem}.rules.yaml").write_text(yaml.safe_dump(rules))
    address = f"127.0.0.1:{free_port()}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        _await(lambda: httpx.get(f"http://{address}/-/ready").status_code == 200)
        yield Prometheus(f"http://{address}", process)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@contextlib.contextmanager
def service(folder: Path, *engines: FakeEngine) -> Iterator[Served]:
    """Serve the adapters, with a canary and a shadow on one route, a drift verdict, and slots for too few."""
    (folder / "turnout.toml").write_text(SETTINGS)
    more = [argument for engine in engines[1:] for argument in ("--engine-url", engine.url)]
    config = str(folder / "turnout.toml")
    served = Served(folder, engines[0].url, *more, "--no-examples", "--config", config)
    try:
        served.await_line("Turnout is ready")
        with httpx.Client(base_url=served.url, trust_env=False, timeout=PATIENCE_S) as client:
            for number, name in enumerate(ADAPTERS):
                source = make(folder / f"adapter-{number}", number, base_name=BASE_MODEL)
                added = client.post("/admin/adapters", json={"name": name, "source": str(source)})
                assert added.status_code == 201, added.text
            put = client.put("/admin/routes/support", json={"spec": SPEC})
            assert put.status_code in (200, 202), put.text
            limits = client.put("/admin/limits/route/towns", json=LIMITS)
            assert limits.status_code == 200, limits.text
        _leave_a_verdict(folder / "state")
        yield served
    finally:
        served.process.terminate()
        served.process.wait(PATIENCE_S)


@contextlib.contextmanager
def traffic(url: str) -> Iterator[None]:
    """Ask every route in turn until the block ends: streams, ratings, mistakes, and clients that go away."""
    stop = threading.Event()
    thread = threading.Thread(target=_talk, args=(url, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(PATIENCE_S)


def _talk(url: str, stop: threading.Event) -> None:
    with httpx.Client(base_url=url, trust_env=False, timeout=PATIENCE_S) as client:
        turn = 0
        while not stop.is_set():
            turn += 1
            said = _stream(client, "support", f"user-{turn % 50}", cut=turn % 7 == 0)
            if said is not None:
                client.post(
                    "/v1/feedback", json={"request_id": said, "metric": "thumbs", "value": turn % 3 > 0}
                )
            _stream(client, ADAPTERS[2 + turn % 5], f"user-{turn}")
            _stream(client, "support", "load-test", internal=True)
            if turn % 5 == 0:
                client.post("/v1/chat/completions", json=_body("nothing", "x"))
            if turn % 3 == 0:
                schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
                form = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
                client.post("/v1/chat/completions", json={**_body("support", "x"), "response_format": form})
            stop.wait(0.02)


def _stream(
    client: httpx.Client, model: str, user: str, *, cut: bool = False, internal: bool = False
) -> str | None:
    """Read a stream, or only its beginning; return the request's id when it was answered."""
    marked = {"x-turnout-internal": str(internal).lower()}
    body = {**_body(model, user), "stream": True}
    with client.stream("POST", "/v1/chat/completions", json=body, headers=marked) as answer:
        for _ in answer.iter_lines():
            if cut:
                return None
        return answer.headers["x-request-id"] if answer.status_code == 200 else None


def _body(model: str, user: str) -> dict[str, Any]:
    messages = [{"role": "user", "content": "Where is my parcel?"}]
    return {"model": model, "messages": messages, "user": user, "max_tokens": 4}


def _leave_a_verdict(state_dir: Path) -> None:
    """Leave what `turnout monitor run` and `turnout monitor watch` leave."""
    database = Database(f"sqlite:///{state_dir / 'control.db'}", "control")
    try:
        features = {"prompt length": {"effect": 0.4, "p_value": 0.001}}
        figures = {"rows": {"reference": 500, "current": 400}, "features": features}
        control = ControlStore(database)
        control.drift.add(DriftRow(time.time(), "support", "drift", figures, None, None))
        epoch = control.fleet.acquire(lease_name("support"), "test", ttl_s=60)
        assert epoch is not None
        control.watches.commit(_watch(time.time()), epoch=epoch)
        _leave_runs(control)
    finally:
        database.close()


def _leave_runs(control: ControlStore) -> None:
    """Leave what the loop leaves: runs with several ends, one that asks a person, and a golden set in use."""
    now = time.time()
    ends = ((9000.0, "promoted"), (7500.0, "gate_failed"), (6000.0, "failed"))
    for age_s, state in (*ends, (60.0, "waiting_approval")):
        run = loops_made.run(id=f"loop-{state}", created_at=now - age_s, since=now - age_s)
        ended = now - age_s + 600 if age_s > 60 else None
        verdict = {"promoted": "passed", "gate_failed": "failed"}.get(state)
        control.loops.change(
            control.loops.begin(run),
            actor="loop",
            state=state,
            ended_at=ended,
            verdict=verdict,
            drift_at=now - age_s - 60,
        )
    control.loops.pause("support", actor="test")
    control.feedback.add(FeedbackRow("req-1", "support", "support@1", None, "thumbs", True, None, "k"))
    control.curation.propose([curated(1, route="support")])
    rows = [GoldenRow("gold-1", "support", 1, [{"role": "user", "content": "hi"}], "hello", {})]
    control.golden.add(rows, route="support", number=1, actor="test")
    control.golden.use("support", 1, run="loop-promoted")


def _watch(now: float) -> WatchRow:
    effect = {"value": 0.1, "low": 0.05, "high": 0.2, "tolerance": 0.01}
    figures = {
        "rows": {"reference": 2000, "current": 40},
        "detector": {"evidence": 2.0, "threshold": 10.0},
        "streams": {"embedding": {"evidence": 3.0, "effect": effect}},
        "ratings": {
            "thumbs": {"evidence": 1.0, "concept_evidence": 0.5, "threshold": 8.0, "difference": effect}
        },
    }
    return WatchRow(
        "support", looks=1, looked_at=now, due_at=now + 600, alarms={"embedding": now}, figures=figures
    )


def _await(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with contextlib.suppress(httpx.TransportError, json.JSONDecodeError):
            if condition():
                return
        assert time.monotonic() < deadline, "it did not come up"
        time.sleep(0.1)
