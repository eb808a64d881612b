"""The systems that are compared: how each is started in front of one engine, with the least that it needs."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from loadtests.common.installs import debian, peer
from loadtests.common.processes import Process, answers, free_port, started, wait_for
from loadtests.overhead import gateway_worker
from loadtests.overhead.bodies import MODEL, bodies

PATH = "/v1/chat/completions"
READY_S = 90.0
LITELLM_STREAMS = 4
"""LiteLLM needs milliseconds for an event; more streams at 20 ms a token would saturate it and coalesce."""

_NGINX = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_buffer_size 128k;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  upstream engine {{ server {engine}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""
_LITELLM = """\
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "{engine}/v1", api_key: none}}
litellm_settings: {{telemetry: false}}
"""


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class Running:
    """A system that answers. `process` is None when there is nothing in front of the engine.

    `check` raises `CheckFailed` when the system did not do what it should have done.
    """

    url: str
    process: Process | None
    headers: dict[str, str] = field(default_factory=dict)
    check: Callable[[], None] = _nothing


@dataclass(frozen=True)
class Setting:
    """Where a system is started: in front of which engine, on which core, with which folder to write into."""

    engine: str
    core: int | None
    folder: Path


@dataclass(frozen=True)
class System:
    """One system. `prepare` installs what is missing, or raises `NotToBeHad`."""

    name: str
    prepare: Callable[[], object]
    run: Callable[[Setting], AbstractContextManager[Running]]
    streams: int | None = None


def all_systems() -> list[System]:
    """Return every system, in the order in which they are measured."""
    return [
        System("direct", _nothing, _direct),
        System("nginx", lambda: debian("nginx", "nginx-light"), _nginx),
        System("vllm-router", lambda: peer("vllm-router"), _vllm_router),
        System("sglang-router", lambda: peer("sglang-router"), _sglang_router),
        System("litellm", lambda: peer("litellm"), _litellm, streams=LITELLM_STREAMS),
        System("turnout", _nothing, _turnout),
    ]


@contextmanager
def _direct(setting: Setting) -> Iterator[Running]:
    yield Running(setting.engine + PATH, None)


@contextmanager
def _nginx(setting: Setting) -> Iterator[Running]:
    port = free_port()
    config = setting.folder / "nginx.conf"
    engine = setting.engine.removeprefix("http://")
    config.write_text(_NGINX.format(folder=setting.folder, port=port, engine=engine), encoding="utf-8")
    program = str(debian("nginx", "nginx-light"))
    command = [program, "-e", "stderr", "-p", str(setting.folder), "-c", str(config)]
    with _proxy(setting, "nginx", command, port) as running:
        yield running


def _routing_options(setting: Setting, port: int) -> list[str]:
    """Return what both Rust routers take: one worker, and the policy that costs them least."""
    address = ["--host", "127.0.0.1", "--port", str(port)]
    metrics = ["--prometheus-host", "127.0.0.1", "--prometheus-port", str(free_port())]
    engine = ["--worker-urls", setting.engine, "--policy", "round_robin"]
    return [*address, *metrics, *engine, "--worker-startup-check-interval", "1"]


@contextmanager
def _vllm_router(setting: Setting) -> Iterator[Running]:
    port = free_port()
    program = str(peer("vllm-router") / "vllm-router")
    command = [program, *_routing_options(setting, port), "--log-level", "warning"]
    with _proxy(setting, "vllm-router", command, port) as running:
        yield running


@contextmanager
def _sglang_router(setting: Setting) -> Iterator[Running]:
    port = free_port()
    program = str(peer("sglang-router") / "sglang-router")
    command = [program, "launch", *_routing_options(setting, port), "--log-level", "warn"]
    with _proxy(setting, "sglang-router", command, port) as running:
        yield running


@contextmanager
def _litellm(setting: Setting) -> Iterator[Running]:
    port = free_port()
    config = setting.folder / "litellm.yaml"
    config.write_text(_LITELLM.format(model=MODEL, engine=setting.engine), encoding="utf-8")
    key = f"sk-{secrets.token_hex(24)}"  # it refuses to start without a key
    program = str(peer("litellm") / "litellm")
    command = [
        program,
        "--config",
        str(config),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--num_workers",
        "1",
    ]
    environment = {
        "LITELLM_MASTER_KEY": key,
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOG": "ERROR",
    }
    with _proxy(setting, "litellm", command, port, key=key, environment=environment) as running:
        yield running


@contextmanager
def _turnout(setting: Setting) -> Iterator[Running]:
    port = free_port()
    house = gateway_worker.prepare(setting.folder, setting.engine, model=MODEL)
    environment = gateway_worker.environment(house, port=port)
    with _proxy(
        setting, "turnout", gateway_worker.COMMAND, port, key=house.key, environment=environment
    ) as running:
        address = f"http://127.0.0.1:{port}"
        yield Running(
            running.url,
            running.process,
            running.headers,
            lambda: gateway_worker.check(house, address, setting.engine),
        )


@contextmanager
def _proxy(
    setting: Setting,
    name: str,
    command: list[str],
    port: int,
    *,
    key: str = "any",
    environment: dict[str, str] | None = None,
) -> Iterator[Running]:
    """Start a proxy and wait until it passes a request on."""
    url = f"http://127.0.0.1:{port}{PATH}"
    headers = {"authorization": f"Bearer {key}"}
    log = setting.folder / f"{name}.log"
    probe = bodies(1024, users=1)[0]
    json_headers = {**headers, "content-type": "application/json"}
    with started(
        command, log=log, core=setting.core, environment=environment, folder=setting.folder
    ) as process:
        wait_for(
            lambda: answers(url, body=probe, headers=json_headers), process, what=name, timeout_s=READY_S
        )
        yield Running(url, process, headers)
