"""The test bed of `make bench-attestation`: a real engine, and provers with fresh or shared memories."""

import asyncio
import json
import os
import random
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from adapters.base import DEFAULT, folder_of
from gateway.controller.attestation.memory import FleetMemory
from gateway.controller.attestation.prober import Prober, long_prompt, prompts_of
from gateway.controller.attestation.proof import Predecessor, Proof, Subject
from gateway.controller.engine_api import EngineApi, EngineRefused
from gateway.settings import EngineSettings
from gateway.store.control import ControlStore
from gateway.store.database import Database
from gateway.store.fleet import CONTROLLER
from gateway.store.versions import Versions
from gateway.supervise.engine import Base, free_port, plan
from loadtests.attestation.adapters import manifest, root, versions
from loadtests.common.processes import Process, started, wait_for

START_S = 240
ROWS = root() / "rows.jsonl"
"""What was proved so far, one row a proof."""

LOADERS = 2
LOG_LINES = 60
WORDS = [
    "red",
    "green",
    "blue",
    "north",
    "south",
    "east",
    "west",
    "up",
    "down",
    "left",
    "right",
    "in",
    "out",
    "over",
    "under",
]


@dataclass(frozen=True)
class Engine:
    """A running engine."""

    url: str
    process: Process


@contextmanager
def engine(quantization: str, folder: Path, *, model: Path | None = None) -> Iterator[Engine]:
    """Run one engine as `turnout serve` would, on every core; `model` takes the base model's place."""
    settings = EngineSettings(quantization=quantization, device="cpu", cpu_kv_cache_gib=1)
    base = Base(str(model or folder_of(DEFAULT)), DEFAULT, local=True)
    spec = plan(settings, base, device="cpu", ports=[free_port()], cores=[])[0]
    environment = {name: value for name, value in spec.environment.items() if value is not None}
    log = folder / f"engine-{quantization}-{'base' if model is None else 'other'}.log"
    with started([sys.executable, *spec.command[1:]], log=log, core=None, environment=environment) as process:
        wait_for(lambda: _healthy(spec.url), process, what="the engine", timeout_s=START_S)
        try:
            yield Engine(spec.url, process)
        except Exception:
            print(process.tail(LOG_LINES), file=sys.stderr)  # the log goes with its folder
            raise


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


class Bed:
    """One engine with provers. Each memory is a store of its own, as of a fleet of its own."""

    def __init__(self, engine: Engine, http: httpx.AsyncClient, folder: Path, quantization: str) -> None:
        self.engine = engine
        self.api = EngineApi(http, engine.url)
        self._http = http
        self._folder = folder
        self.quantization = quantization
        self._stores: dict[str, tuple[ControlStore, int]] = {}

    def prober(self, memory: str, *, replica: str, quantization: str | None = None) -> Prober:
        """Return a prober that knows only what the fleet `memory` has recorded."""
        store, epoch = self._store(memory)
        named = self.quantization if quantization is None else quantization
        engines = None if named == "none" else named
        fleet = FleetMemory(
            store.attestations, replica=replica, epoch=epoch, base_model=DEFAULT, quantization=engines
        )
        return Prober(self.api, fleet, base_model=DEFAULT, quantization=engines)

    def versions(self) -> Versions:
        """Return a versions table, for a registry that only looks at files."""
        return self._store("fleet")[0].versions

    def _store(self, memory: str) -> tuple[ControlStore, int]:
        if memory not in self._stores:
            database = Database(f"sqlite:///{self._folder / f'{memory}.db'}", "control", durable=False)
            database.migrate()
            store = ControlStore(database)
            epoch = store.fleet.acquire(CONTROLLER, "bench", ttl_s=86_400)
            assert epoch is not None  # noqa: S101 - a store of our own
            self._stores[memory] = (store, epoch)
        return self._stores[memory]

    async def register(self, name: str, folder: Path) -> None:
        """Register the adapter in `folder` under `name`, whatever had the name before."""
        with suppress(EngineRefused):
            await self.api.unload(name)
        await self.api.load(name, str(folder))

    async def prove(self, prober: Prober, name: str) -> Proof:
        """Prove what is registered under `name` as the version of that name."""
        return await prober.prove(subject(name), incarnation=(await self.api.identity()).incarnation)

    async def reload_in_place(self, name: str, folder: Path) -> None:
        """Have the engine read the files of a registered adapter again."""
        body = {"lora_name": name, "lora_path": str(folder), "load_inplace": True}
        answer = await self._http.post(f"{self.engine.url}/v1/load_lora_adapter", json=body, timeout=60)
        answer.raise_for_status()

    async def traffic(self, name: str) -> None:
        """Ask once as a client does, with the very prompt that the long probe is."""
        block = (await self.api.identity()).block_tokens
        prompt = long_prompt(block, prompts_of(subject(name).recorded))
        body = {"model": name, "prompt": prompt, "max_tokens": 1, "logprobs": 1}
        answer = await self._http.post(f"{self.engine.url}/v1/completions", json=body, timeout=60)
        answer.raise_for_status()

    @asynccontextmanager
    async def load(self, names: list[str]) -> AsyncIterator[None]:
        """Keep the engine busy with requests to these names and to the base model."""
        tasks = [asyncio.create_task(self._ask([*names, DEFAULT], seed)) for seed in range(LOADERS)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
        faults = [fault for fault in done if not isinstance(fault, asyncio.CancelledError)]
        if faults:
            raise RuntimeError(f"the load broke off: {faults[0]!r}")

    async def _ask(self, names: list[str], seed: int) -> None:
        choice = random.Random(seed)
        while True:
            prompt = " ".join(choice.choices(WORDS, k=choice.randint(4, 24)))
            body = {"model": choice.choice(names), "prompt": prompt, "max_tokens": choice.randint(1, 8)}
            answer = await self._http.post(f"{self.engine.url}/v1/completions", json=body, timeout=120)
            answer.raise_for_status()


def subject(name: str) -> Subject:
    """Return what a proof of an honest version needs, from its folder's manifest."""
    folder, before = versions()[name]
    made = manifest(folder)
    predecessor = None if before is None else Predecessor(before, manifest(versions()[before][0]).digest)
    return Subject(name, made.digest, made.reference, predecessor)


def row_of(bed: Bed, kind: str, name: str, proof: Proof, **more: Any) -> dict[str, Any]:
    """Return what is kept of one proof."""
    judged = {"fault": proof.fault, "weak": proof.weak, "figures": proof.figures()}
    return {"quantization": bed.quantization, "kind": kind, "version": name, **more, **judged}


def kept(path: Path) -> list[dict[str, Any]]:
    """Return the rows that an earlier piece of the run has left."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def keep(path: Path, row: dict[str, Any]) -> None:
    """Add one row, so that a run that is cut short can be gone on with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
        file.flush()
        os.fsync(file.fileno())
