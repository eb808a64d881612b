"""`/admin/drift`: verdicts of the monitor and its watch, and runs of it as a process of its own."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query

from gateway.api.admin_common import Actor, Limit, Why, faults
from gateway.api.admin_schemas import DriftPage, DriftRun, DriftStarted, DriftVerdict, DriftWatch
from gateway.errors import Conflict, NotFound, Unavailable, Unprocessable
from gateway.store.control import ControlStore

_log = logging.getLogger("turnout.api")


class MonitorRuns:
    """Runs `python -m monitoring run ROUTE…`, one process at a time.

    A report takes seconds and hundreds of megabytes, so no two run at once. `close` ends what runs.
    `environment` is added to the process's own: what it needs to know of the stores.
    """

    def __init__(
        self,
        report_root: Path,
        state_dir: Path,
        *,
        environment: Mapping[str, str],
        module: str = "monitoring",
    ) -> None:
        self._report_root = report_root
        self._state_dir = state_dir
        self._environment = dict(environment)
        self._module = module
        self._task: asyncio.Task[None] | None = None
        self._routes: tuple[str, ...] = ()

    @property
    def running(self) -> tuple[str, ...]:
        """The routes of the present run; none when it has ended."""
        return self._routes if self._task is not None and not self._task.done() else ()

    def start(self, routes: Sequence[str]) -> Path:
        """Start a run and return the file that its output goes to.

        Raises:
            Conflict: one is running.
        """
        if self.running:
            raise Conflict(f"a run is under way ({', '.join(self.running)}); wait for it", code="running")
        self._report_root.mkdir(parents=True, exist_ok=True)
        log = self._report_root / f"run-{time.strftime('%Y%m%dT%H%M%S')}.log"
        self._routes = tuple(routes)
        self._task = asyncio.create_task(self._run(self._routes, log), name="monitor-run")
        return log

    async def close(self) -> None:
        """End the present run with its process."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _run(self, routes: Sequence[str], log: Path) -> None:
        # -P: a folder `monitoring` in the working directory is not ours.
        command = [sys.executable, "-P", "-m", self._module, "run", *routes]
        environment = {**os.environ, **self._environment}
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command, "--state-dir", str(self._state_dir), stdout=output, stderr=output, env=environment
            )
        try:
            code = await process.wait()
        finally:
            if process.returncode is None:
                process.terminate()
                await process.wait()
        if code != 0:
            _log.warning("the drift run of %s ended with exit code %s; see %s", ", ".join(routes), code, log)


class DriftEndpoints:
    """The endpoints, on one store and one runner."""

    def __init__(
        self,
        control: ControlStore,
        runs: MonitorRuns,
        report_root: Path,
        *,
        installed: Callable[[], bool],
    ) -> None:
        self._control = control
        self._runs = runs
        self._report_root = report_root
        self._installed = installed

    def mount(self, router: APIRouter) -> None:
        """Put the endpoints on `router`."""
        router.add_api_route("/drift", self.page, methods=["GET"], responses=faults())
        router.add_api_route(
            "/drift/run", self.run, methods=["POST"], status_code=202, responses=faults(404, 409, 422)
        )

    def page(self, route: Annotated[str | None, Query()] = None, limit: Limit = 100) -> DriftPage:
        """Show the newest verdict of each route, or of one route every verdict, newest first."""
        rows = self._control.drift.rows(route, limit=limit) if route else self._control.drift.latest()
        watches = [row for row in self._control.watches.stand() if route in (None, row.route)]
        return DriftPage(
            data=tuple(DriftVerdict.model_validate(row) for row in rows),
            watches=tuple(DriftWatch.model_validate(row) for row in watches[:limit]),
            report_root=str(self._report_root),
            running=self._runs.running,
        )

    async def run(self, actor: Actor, why: Why, body: DriftRun | None = None) -> DriftStarted:
        """Start the monitor on one route, or on every route, and answer at once."""
        if not self._installed():
            raise Unavailable(
                "the gateway's environment lacks the `monitoring` extra; install it with "
                "pip install 'turnout[monitoring]'",
                code="monitoring_not_installed",
            )
        names = [route.name for route in await asyncio.to_thread(self._control.routes.rows)]
        wanted = body.route if body else None
        if wanted is not None and wanted not in names:
            raise NotFound(f"there is no route {wanted!r}", code="route_not_found", param="route")
        routes = names if wanted is None else [wanted]
        if not routes:
            raise Unprocessable("there is no route to look at")
        started = DriftStarted(routes=tuple(routes), log=str(self._runs.start(routes)))
        await asyncio.to_thread(
            self._control.events.add,
            actor=actor,
            action="drift.run",
            subject=wanted or "drift",
            why=why,
            after={"routes": routes},
        )
        return started


def monitoring_installed() -> bool:
    """Whether the libraries of the `monitoring` extra are there. Nothing is imported."""
    return all(importlib.util.find_spec(name) is not None for name in ("evidently", "pandas", "sklearn"))


@contextlib.asynccontextmanager
async def closing(runs: MonitorRuns) -> AsyncIterator[None]:
    """Close `runs` at the end of the block."""
    try:
        yield
    finally:
        await runs.close()
