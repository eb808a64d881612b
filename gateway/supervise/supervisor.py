"""Keeps the processes of one machine running: engines, controller and gateway. One thread, one loop."""

import contextlib
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import httpx

from gateway.supervise.process import Backoff, Child, tail
from gateway.supervise.ready import Health, diagnose, health, phase
from gateway.supervise.report import Report

_TICK_S = 0.2
_PROBE_EVERY_S = 5.0
_SILENT_S = 60.0
"""A busy engine may answer late; one that says nothing for a minute is stuck."""
_CONTROLLER_STOP_S = 10.0
_SLACK_S = 5.0
_SETTLED_S = 1.0
_SETTLE_S = 120.0
"""How long the ready message waits for adapters once everything else is up."""


class StartFailed(Exception):
    """Something did not come up; what there is to say has been printed."""


class Stopped(Exception):
    """A signal asked for the end while things were starting."""


@dataclass
class Engine:
    """One supervised engine and what was last seen of it."""

    url: str
    child: Child
    well: bool = False
    heard_at: float = 0.0
    probed_at: float = 0.0


@dataclass
class Pace:
    """When a child that ended is started again."""

    child: Child
    backoff: Backoff = field(default_factory=Backoff)
    due_at: float | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds."""

    start_timeout_s: float
    drain_s: float
    silent_s: float = _SILENT_S


class Supervisor:
    """Starts everything, starts again what ends by itself, and stops everything in order.

    `listeners` are the gateways' listening sockets: held here and shared by all of them, so that one that is
    started again finds its waiting connections. `serving` says whether all of them are ready. A signal
    (SIGINT, SIGTERM) begins the stop: gateways, then controller, then engines; a second one kills what is
    left. SIGHUP asks `reread` for the settings, and when they are good the gateways and the controller too;
    when it says that the terminal was closed, it is a stop.
    """

    def __init__(
        self,
        *,
        engines: Sequence[Engine],
        controller: Child,
        gateways: Sequence[Child],
        listeners: Sequence[socket.socket],
        serving: Callable[[], bool],
        limits: Limits,
        report: Report,
        reread: Callable[[], bool] | None = None,
    ) -> None:
        self._engines = engines
        self._controller = controller
        self._gateways = list(gateways)
        self._listeners = listeners
        self._serving = serving
        self._limits = limits
        self._report = report
        self._reread = reread
        self._asked_to_reread = False
        self._on_terminal = sys.stderr.isatty()
        self._signals: list[signal.Signals] = []
        # Loopback addresses: no proxy of the environment stands between.
        self._http = httpx.Client(trust_env=False)

    def run(self, *, settled: Callable[[], bool], ready: Callable[[], None]) -> int:
        """Run until a signal; return 0 after an orderly stop, 1 when the start failed, 130 when forced.

        `settled` says whether the adapters are where they shall be; `ready` is called once, when everything
        answers.
        """
        with self._handlers(), self._http:
            try:
                self._start()
                self._await_ready(settled)
                ready()
                self._keep()
            except Stopped:
                pass
            except StartFailed:
                self._stop(signal.SIGINT)
                return 1
            except BaseException:
                self._kill()
                raise
            return self._stop(self._signals[0])

    @property
    def _children(self) -> list[Child]:
        return [*self._gateways, self._controller, *(engine.child for engine in self._engines)]

    @contextlib.contextmanager
    def _handlers(self) -> Iterator[None]:
        def note(signum: int, _frame: object) -> None:
            if signum == signal.SIGHUP and not (self._on_terminal and not sys.stderr.isatty()):
                self._asked_to_reread = True
            else:
                self._signals.append(signal.Signals(signum))

        wanted = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
            wanted.append(signal.SIGHUP)
        before = {signum: signal.signal(signum, note) for signum in wanted}
        try:
            yield
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)

    def _start(self) -> None:
        for child in [*(engine.child for engine in self._engines), self._controller, *self._gateways]:
            child.start()

    # ── starting ────────────────────────────────────────────────────────────────────────────────────────

    def _await_ready(self, settled: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._limits.start_timeout_s
        while doing := self._what_is_missing():
            self._report.progress(doing)
            if time.monotonic() > deadline:
                self._fail_late(doing)
            self._tick()
            self._require_running()
        deadline = time.monotonic() + _SETTLE_S
        while not settled() and time.monotonic() < deadline:
            self._report.progress("adapters: loading and attesting")
            self._tick()
            self._require_running()

    def _tick(self) -> None:
        if self._signals:
            raise Stopped
        time.sleep(_TICK_S)
        if self._signals:
            raise Stopped

    def _what_is_missing(self) -> str | None:
        for engine in self._engines:
            self._probe(engine, every_s=_TICK_S)
        cold = [engine for engine in self._engines if not engine.well]
        if cold:
            log = cold[0].child.log
            doing = phase(tail(log, 200)) if log else "starting"
            count = f" ({len(self._engines) - len(cold)} of {len(self._engines)} ready)" * (
                len(self._engines) > 1
            )
            return f"engine {cold[0].child.name}: {doing}{count}"
        if not self._serving():
            return "gateway: loading its routes"
        return None

    def _require_running(self) -> None:
        for engine in self._engines:
            if not engine.child.running:
                self._fail(
                    engine.child,
                    diagnose(tail(engine.child.log, 200) if engine.child.log else [], engine.child.exit_code),
                )
        for child in (*self._gateways, self._controller):
            if not child.running:
                self._fail(child, "see above; `turnout doctor` checks the set-up.")

    def _fail(self, child: Child, cause: str) -> None:
        log = child.log
        self._report.failed(
            f"{child.name} ended with code {child.exit_code} before it was ready",
            cause,
            tail=tail(log) if log else (),
            log=str(log) if log else None,
        )
        raise StartFailed

    def _fail_late(self, doing: str) -> None:
        cold = [engine.child for engine in self._engines if not engine.well]
        log = cold[0].log if cold else self._controller.log
        self._report.failed(
            f"not ready after {self._limits.start_timeout_s:.0f} s ({doing})",
            "raise engine.start_timeout_s if the machine is only slow.",
            tail=tail(log) if log else (),
            log=str(log) if log else None,
        )
        raise StartFailed

    # ── running ─────────────────────────────────────────────────────────────────────────────────────────

    def _keep(self) -> None:
        """Start again what ends, until a signal."""
        paces = [Pace(child) for child in self._children]
        with contextlib.suppress(Stopped):
            while True:
                self._tick()
                if self._asked_to_reread:
                    self._pass_on_reread()
                for engine in self._engines:
                    self._end_if_stuck(engine)
                for pace in paces:
                    self._revive(pace)

    def _pass_on_reread(self) -> None:
        """Have the children read the settings again, if they are good. Who just starts does it anyway."""
        self._asked_to_reread = False
        if self._reread is None or not self._reread():
            return
        for child in (*self._gateways, self._controller):
            if time.monotonic() - child.started_at > _SETTLED_S:
                child.send(signal.SIGHUP)

    def _revive(self, pace: Pace) -> None:
        child, now = pace.child, time.monotonic()
        if child.running:
            return
        if pace.due_at is None:
            wait_s = pace.backoff.after_run_of(now - child.started_at)
            pace.due_at = now + wait_s
            self._report.line(
                f"{child.name} ended with code {child.exit_code}; it starts again in {wait_s:.0f} s"
                + (f" (log: {child.log})" if child.log else "")
            )
        elif now >= pace.due_at:
            pace.due_at = None
            for engine in self._engines:
                if engine.child is child:
                    engine.well = False
            child.start()

    def _end_if_stuck(self, engine: Engine) -> None:
        if not engine.child.running:
            return
        now = time.monotonic()
        seen = self._probe(engine, every_s=_PROBE_EVERY_S)
        allowed_s = self._limits.silent_s if engine.well else self._limits.start_timeout_s
        silent_s = now - max(engine.heard_at, engine.child.started_at)
        if engine.well and seen is Health.DEAD:
            self._report.line(f"{engine.child.name} reports that its core is dead; it is ended")
            engine.child.kill()
        elif silent_s > allowed_s:
            self._report.line(f"{engine.child.name} has not answered for {silent_s:.0f} s; it is ended")
            engine.child.kill()

    def _probe(self, engine: Engine, *, every_s: float) -> Health | None:
        now = time.monotonic()
        if now - engine.probed_at < every_s:
            return None
        engine.probed_at = now
        seen = health(self._http, engine.url)
        if seen is Health.WELL:
            engine.well, engine.heard_at = True, time.monotonic()
        return seen

    # ── stopping ────────────────────────────────────────────────────────────────────────────────────────

    def _stop(self, signum: signal.Signals) -> int:
        # A person at the terminal does not wait for load balancers to notice: SIGINT drains without delay.
        asked = signal.SIGINT if signum == signal.SIGINT else signal.SIGTERM
        already = len(self._signals)
        self._report.begin()
        for listener in self._listeners:
            listener.close()
        stages: list[tuple[Sequence[Child], signal.Signals, float]] = [
            (self._gateways, asked, self._limits.drain_s + _SLACK_S),
            ([self._controller], signal.SIGTERM, _CONTROLLER_STOP_S),
            ([engine.child for engine in self._engines], signal.SIGTERM, _CONTROLLER_STOP_S + _SLACK_S),
        ]
        for children, sent, patience_s in stages:
            running = [child for child in children if child.running]
            for child in running:
                child.ask_to_stop(sent)
            deadline = time.monotonic() + patience_s
            while any(child.running for child in running):
                self._report.progress(
                    f"stopping {', '.join(child.name for child in running if child.running)}"
                )
                if len(self._signals) > already:
                    self._kill()
                    self._report.settle()
                    return 130
                if time.monotonic() > deadline:
                    for child in running:
                        child.kill()
                time.sleep(_TICK_S / 4)
        self._report.settle()
        return 0

    def _kill(self) -> None:
        for child in self._children:
            child.kill()
