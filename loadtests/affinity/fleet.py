"""Two real engines of one core each, with a small KV cache, and Turnout in front of them by one policy."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import torch
from safetensors.torch import load_file, save_file

from adapters.base import folder_of, identify
from adapters.registry import Registry
from gateway.auth import mint
from gateway.core.requests import Role
from gateway.peppers import load_pepper
from gateway.settings import DEFAULT_BASE_MODEL, EngineSettings
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.supervise.engine import Base, plan
from loadtests.common.machine import ROOT
from loadtests.common.processes import Process, free_port, started, wait_for

LIBRARY = ROOT / "adapters" / "library"
START_S = 300.0
SETTLE_S = 120.0
NOISE = 0.002
POLICIES = {
    "round_robin": {"policy": "everywhere", "pick": "round_robin"},
    "least_loaded": {"policy": "everywhere", "pick": "least_loaded"},
    "hash": {"policy": "hash", "pick": "least_loaded"},
    "placement": {"policy": "demand", "pick": "least_loaded"},
}


@dataclass(frozen=True)
class FleetSize:
    """What there is too little of. `kv_tokens` is each engine's whole KV cache."""

    replicas: int = 2
    adapters: int = 16
    max_loras: int = 4
    max_cpu_loras: int = 16
    kv_tokens: int = 4096
    max_model_len: int = 768
    block_tokens: int = 32


@dataclass
class Fleet:
    """Running engines and a state folder whose store knows the adapters."""

    folder: Path
    size: FleetSize
    urls: list[str]
    store: ControlStore
    names: list[str]
    engines: list[Process]
    turns: int = field(default=0)

    @property
    def state(self) -> Path:
        """The state folder."""
        return self.folder / "state"

    def cpu_s(self) -> float:
        """Return the CPU seconds that the engines have used."""
        return sum(process.cpu_s() for process in self.engines)

    def new_key(self) -> str:
        """Return a key of a new tenant: its prefixes are salted, so it finds nothing that others cached."""
        self.turns += 1
        text, row = mint(
            label="benchmark",
            tenant=f"turn-{self.turns}",
            roles=[Role.INFERENCE, Role.ADMIN],
            pepper=load_pepper(self.state),
        )
        self.store.keys.add(row, actor="benchmark")
        return text

    def prefix_tokens(self) -> tuple[float, float]:
        """Return how many prompt tokens the engines looked for in their prefix caches, and found."""
        asked = found = 0.0
        for url in self.urls:
            for line in httpx.get(f"{url}/metrics", timeout=30, trust_env=False).text.splitlines():
                if line.startswith("vllm:prefix_cache_queries_total{"):
                    asked += float(line.rsplit(" ", 1)[1])
                elif line.startswith("vllm:prefix_cache_hits_total{"):
                    found += float(line.rsplit(" ", 1)[1])
        return asked, found


@contextmanager
def fleet(folder: Path, size: FleetSize, *, prefix_caching: bool, cores: list[int]) -> Iterator[Fleet]:
    """Start the engines and fill a store with adapters until the block ends.

    Raises:
        StartFailed: an engine does not come up.
    """
    model = folder_of(DEFAULT_BASE_MODEL)
    settings = EngineSettings(
        quantization="bitsandbytes",
        max_loras=size.max_loras,
        max_cpu_loras=size.max_cpu_loras,
        max_model_len=size.max_model_len,
        cpu_kv_cache_gib=1,
        extra_args=(
            "--block-size",
            str(size.block_tokens),
            "--num-gpu-blocks-override",
            str(size.kv_tokens // size.block_tokens),
            "--enable-prefix-caching" if prefix_caching else "--no-enable-prefix-caching",
        ),
    )
    specs = plan(
        settings,
        Base(model=str(model), served_name=DEFAULT_BASE_MODEL, local=model is not None),
        device="cpu",
        ports=[free_port() for _ in range(size.replicas)],
        cores=cores,
    )
    with ExitStack() as stack:
        engines = [
            (
                spec.url,
                stack.enter_context(
                    started(
                        spec.command,
                        log=folder / f"{spec.replica}.log",
                        core=None,
                        environment={k: v for k, v in spec.environment.items() if v is not None},
                    )
                ),
            )
            for spec in specs
        ]
        for url, process in engines:
            _await(url, process)
        state = folder / "state"
        state.mkdir()
        database = Database(f"sqlite:///{state / 'control.db'}", "control")
        stack.callback(database.close)
        database.migrate()
        store = ControlStore(database)
        names = [f"task-{number:02d}" for number in range(size.adapters)]
        _add_adapters(folder, store, state, names)
        processes = [process for _, process in engines]
        yield Fleet(folder, size, [url for url, _ in engines], store, names, processes)


def _await(url: str, process: Process) -> None:
    def well() -> bool:
        try:
            return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False

    wait_for(well, process, what="an engine", timeout_s=START_S)


def _add_adapters(folder: Path, store: ControlStore, state: Path, names: list[str]) -> None:
    """Add adapters that differ from one another: library ones with a little noise of their own."""
    sources = sorted(path.parent for path in LIBRARY.glob("*/adapter_model.safetensors"))
    registry = Registry(
        state / "adapters", store.versions, base=identify(DEFAULT_BASE_MODEL, DEFAULT_BASE_MODEL), max_rank=16
    )
    for number, name in enumerate(names):
        source = sources[number % len(sources)]
        made = folder / "sources" / name
        made.mkdir(parents=True)
        noise = torch.Generator().manual_seed(number)
        tensors = {
            key: value + (torch.randn(value.shape, generator=noise) * NOISE).to(value.dtype)
            for key, value in load_file(source / "adapter_model.safetensors").items()
        }
        save_file(tensors, made / "adapter_model.safetensors")
        (made / "adapter_config.json").write_bytes((source / "adapter_config.json").read_bytes())
        registry.add(name, made, actor="benchmark")


@contextmanager
def serving(fleet: Fleet, policy: str) -> Iterator[str]:
    """Run a controller and a gateway by one policy; yield the gateway's address once everything stands.

    Raises:
        StartFailed: a process ended, or the adapters did not come to stand.
    """
    port = free_port()
    environment = {
        "TURNOUT_STATE_DIR": str(fleet.state),
        "TURNOUT_SERVER__PORT": str(port),
        "TURNOUT_SERVER__DRAIN_DELAY_S": "0",
        "TURNOUT_ENGINE__URLS": json.dumps(fleet.urls),
        "TURNOUT_ENGINE__MAX_LORAS": str(fleet.size.max_loras),
        "TURNOUT_ENGINE__MAX_CPU_LORAS": str(fleet.size.max_cpu_loras),
        "TURNOUT_PLACEMENT__POLICY": POLICIES[policy]["policy"],
        "TURNOUT_PLACEMENT__PICK": POLICIES[policy]["pick"],
        "TURNOUT_PLACEMENT__COLD_LOAD_TIMEOUT_S": "60",
    }
    turnout = [sys.executable, "-m", "gateway"]
    logs = fleet.folder / f"{policy}-{fleet.turns}"
    with ExitStack() as stack:
        controller, worker = (
            stack.enter_context(
                started(
                    [*turnout, kind], log=logs.with_suffix(f".{kind}.log"), core=None, environment=environment
                )
            )
            for kind in ("controller", "worker")
        )
        wait_for(lambda: _settled(fleet, policy), controller, what="the controller", timeout_s=SETTLE_S)
        address = f"http://127.0.0.1:{port}"
        wait_for(lambda: _applied(fleet, address), worker, what="the gateway", timeout_s=SETTLE_S)
        yield address


def _settled(fleet: Fleet, policy: str) -> bool:
    attested = [row for row in fleet.store.fleet.registrations() if row.state == "attested"]
    homes = fleet.store.placement.homes()
    everywhere = fleet.size.replicas * fleet.size.adapters
    slots = fleet.size.replicas * fleet.size.max_cpu_loras
    if POLICIES[policy]["policy"] == "demand":
        return len(attested) == min(slots, everywhere) and 0 < len(homes) <= slots
    return len(attested) == everywhere and len(homes) == (len(fleet.names) if policy == "hash" else 0)


def _applied(fleet: Fleet, address: str) -> bool:
    try:
        ready = httpx.get(f"{address}/readyz", timeout=2, trust_env=False)
    except httpx.HTTPError:
        return False
    return ready.status_code == 200 and ready.json()["table"]["generation"] >= fleet.store.generation()


def quiet(fleet: Fleet, *, timeout_s: float = 60.0) -> None:
    """Wait until the engines work on nothing."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        texts = [httpx.get(f"{url}/metrics", timeout=30, trust_env=False).text for url in fleet.urls]
        running = sum(
            float(line.rsplit(" ", 1)[1])
            for text in texts
            for line in text.splitlines()
            if line.startswith(("vllm:num_requests_running{", "vllm:num_requests_waiting{"))
        )
        if running == 0:
            return
        time.sleep(0.2)
