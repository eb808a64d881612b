"""A house for the controller's tests: a store and a registry in a folder, adapters to add, fake engines."""

import asyncio
import json
import shutil
import struct
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from adapters.manifest import BaseIdentity, Reference
from adapters.registry import Registry
from gateway.controller.blobs import Blobs
from gateway.controller.clock import Clock
from gateway.controller.experimenter import ExperimenterConfig
from gateway.controller.keeper import KeeperConfig
from gateway.controller.lease import Lease
from gateway.controller.loop import Controller, LoopConfig
from gateway.core.refs import VersionRef
from gateway.core.routes import Arm, Route, RouteSpec
from gateway.store.control import ControlStore
from gateway.store.database import Database, StoreUnavailable
from gateway.store.fleet import RegistrationRow
from gateway.store.requests import Requests
from tests.fake_engine import BASE_MODEL, FakeEngine

if TYPE_CHECKING:
    from gateway.controller.agents import Agents


class Switchable(Database):
    """A database that can be switched off."""

    down = False

    def read(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        return self._refuse() if self.down else super().read()

    def write(self):  # type: ignore[no-untyped-def]  # noqa: ANN201
        return self._refuse() if self.down else super().write()

    @contextmanager
    def _refuse(self) -> Iterator[None]:
        raise StoreUnavailable("switched off")
        yield


class House:
    """The store, the registry and what controllers are made of."""

    def __init__(self, folder: Path, *engines: FakeEngine) -> None:
        self.folder = folder
        self.database = Switchable(f"sqlite:///{folder / 'control.db'}", "control", durable=False)
        self.database.migrate()
        self.store = ControlStore(self.database)
        self.requests_db = Switchable(f"sqlite:///{folder / 'requests.db'}", "requests", durable=False)
        self.requests = Requests(self.requests_db)
        self.registry = Registry(
            folder / "adapters", self.store.versions, base=BaseIdentity(name=BASE_MODEL), max_rank=16
        )
        self.mirrors: dict[str, Path] = {}
        self.agents: Callable[[httpx.AsyncClient], Agents | None] = lambda _: None
        self.store.fleet.set_replicas(
            {f"replica-{i}": (engine.url, None) for i, engine in enumerate(engines)}
        )

    def add(
        self, name: str, *, seed: int, reference: Reference | None = None, kin: str | None = None
    ) -> VersionRef:
        """Add a version whose weights are made of `seed`, near to those of its `kin` when it has one."""
        folder = self.source(seed, kin=kin)
        return self.registry.add(name, folder, actor="test", reference=reference)[0].ref

    def source(self, seed: int, *, kin: str | None = None, step: float = 0.4) -> Path:
        """Make an adapter's folder; adapters of one kin answer alike up to about `step` nats."""
        folder = self.folder / f"source-{uuid.uuid4().hex}"
        folder.mkdir()
        config = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
        (folder / "adapter_config.json").write_text(json.dumps(config))
        tensors = {
            "base_model.model.layer.lora_A.weight": {
                "dtype": "F32",
                "shape": [8, 1],
                "data_offsets": [0, 32],
            },
            "base_model.model.layer.lora_B.weight": {
                "dtype": "F32",
                "shape": [1, 8],
                "data_offsets": [32, 64],
            },
        }
        about = {"__metadata__": {"kin": kin, "step": str(step)}} if kin else {}
        header = json.dumps({**about, **tensors}).encode()
        data = struct.pack("<Q", len(header)) + header + struct.pack("<16I", *[seed] * 16)
        (folder / "adapter_model.safetensors").write_bytes(data)
        return folder

    def mirror(self, root: str, here: Path) -> None:
        """Have every replica read adapters under `root`, a folder that this machine sees as `here`."""
        self.mirrors[root] = here
        self.store.fleet.set_replicas({row.id: (row.url, root) for row in self.store.fleet.replicas()})

    def copy(self, ref: VersionRef, root: Path) -> Path:
        """Copy a version's files under an engine's own root; return their folder."""
        place = root / "blobs" / self.blob(ref).name
        shutil.copytree(self.blob(ref), place)
        place.chmod(0o755)
        return place

    def blob(self, ref: VersionRef) -> Path:
        """Where a version's files lie."""
        row = self.store.versions.get(ref)
        assert row is not None
        return self.registry.path(row.digest)

    def put(self, route: str, *labels: str, fallback: str | None = None) -> Route:
        """Give a route arms of equal shares."""
        arms = tuple(Arm(adapter=label, share=1 / len(labels)) for label in labels)
        return self.store.routes.put(route, RouteSpec(arms=arms, fallback=fallback), actor="test")[0]

    def route(self, name: str) -> Route:
        """Read a route that exists."""
        route = self.store.routes.get(name)
        assert route is not None
        return route

    def arms(self, name: str) -> list[str]:
        """The labels that a route's traffic meets now."""
        return [arm.adapter for arm in self.route(name).status.effective_arms]

    def rows(self, ref: VersionRef | None = None) -> list[RegistrationRow]:
        """What is registered, of one version when named, by replica."""
        rows = [row for row in self.store.fleet.registrations() if ref in (None, row.ref)]
        return sorted(rows, key=lambda row: (row.replica, row.ref))

    def states(self, ref: VersionRef) -> dict[str, str]:
        """The state of a version by replica."""
        return {row.replica: row.state for row in self.rows(ref)}

    def controller(
        self,
        http: httpx.AsyncClient,
        *,
        holder: str = "one",
        interval_s: float = 0.01,
        min_ready: int = 1,
        attest_every_s: float = 600.0,
        slots: int = 16,
        lease: Lease | None = None,
        clock: Clock = Clock(),  # noqa: B008 - it is frozen
    ) -> Controller:
        """Make a controller over this house."""
        keeper = KeeperConfig(
            base_model=BASE_MODEL,
            quantization="bitsandbytes",
            attest_every_s=attest_every_s,
            max_loras=4,
            max_cpu_loras=slots,
        )
        return Controller(
            self.store,
            http=http,
            lease=lease or Lease(self.store.fleet, holder=holder, ttl_s=30.0),
            blobs=Blobs(self.registry, mirrors=self.mirrors, agents=self.agents(http)),
            config=LoopConfig(
                interval_s=interval_s,
                min_ready=min_ready,
                keeper=keeper,
                experiments=ExperimenterConfig(canary_every_s=0.0, every_s=0.0, settle_s=0.0),
            ),
            requests=self.requests,
            clock=clock,
        )

    def turns(self, count: int = 1, **options: Any) -> None:
        """Run a new controller for some turns, each of which waits for every replica."""

        async def work() -> None:
            async with httpx.AsyncClient() as http:
                controller = self.controller(http, **options)
                for _ in range(count):
                    assert await controller.turn()

        asyncio.run(work())

    def turns_around(self, between: Callable[[], None], **options: float) -> None:
        """Run a new controller for a turn before something happens, and for one after it."""

        async def work() -> None:
            async with httpx.AsyncClient() as http:
                controller = self.controller(http, **options)  # type: ignore[arg-type]
                await controller.turn()
                between()
                await controller.turn()

        asyncio.run(work())


async def until(holds: Callable[[], bool], *, what: str, timeout_s: float = 30.0) -> None:
    """Wait for something that another task brings about."""
    async with asyncio.timeout(timeout_s):
        while not holds():  # noqa: ASYNC110 - the store and the engines signal nothing
            await asyncio.sleep(0.01)
    assert holds(), what
