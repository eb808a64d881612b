"""`turnout monitor watch`: the composition root of the watch."""

import logging
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import orjson
import typer
from rich.console import Console

from gateway.store.control import ControlStore
from gateway.store.database import StoreUnavailable
from gateway.store.requests import Requests
from monitoring.embed import DEFAULT_MODEL, SentenceModel
from monitoring.options import ControlUrl, Json, RequestsUrl, StateDir
from monitoring.stores import open_store
from monitoring.watch import cli_options as o
from monitoring.watch.basis import Pinned
from monitoring.watch.look import Look, Watcher
from monitoring.watch.options import WatchOptions
from monitoring.watch.reporter import Reporter
from monitoring.watch.rounds import NoSuchRoute, Round, Rounds, Stopped, ending_by_signal, forever
from monitoring.watch.texts import languages
from monitoring.watch.vectors import Encoder, Vectors


def watch(
    routes: o.Routes = None,
    *,
    every: o.Every = "10m",
    once: o.Once = False,
    min_rows: o.MinRows = 2000,
    min_days: o.MinDays = 7.0,
    reference_since: o.ReferenceSince = None,
    reference_until: o.ReferenceUntil = None,
    settle: o.Settle = "10m",
    false_alarms: o.FalseAlarms = 1.0,
    embedding_model: o.EmbeddingModel = DEFAULT_MODEL,
    keep_reports: o.KeepReports = 50,
    state_dir: StateDir = Path(".turnout"),
    control_url: ControlUrl = None,
    requests_url: RequestsUrl = None,
    as_json: Json = False,
) -> None:
    """Watch routes for drift of prompts, answers and feedback, and say when it is enough to retrain.

    The traffic since a version got most of a route's requests is the reference, once it is long enough; what
    comes after it adds evidence, look by look, until there is an alarm. Alarms without a change are rare by a
    stated rate, however often it looks. Ended in any way, it goes on where it was.

    Exit code 0 after an orderly end, also by SIGTERM; with --once 1 when a look could not be made; 2 for bad
    usage.
    """
    now = time.time()
    every_s = o.seconds(every, "--every", least=0.1)
    pinned = _pinned(reference_since, reference_until, routes or [], now=now)
    options = WatchOptions(
        min_rows=min_rows,
        min_days=min_days,
        reference_rows=max(WatchOptions().reference_rows, min_rows),
        settle_s=o.seconds(settle, "--settle"),
        false_alarms_a_month=false_alarms,
        pinned=pinned,
        keep_reports=keep_reports,
        every_s=None if once else every_s,
    )
    # A program reads standard output; what goes on is told on the other one.
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s watch: %(message)s"
    )
    for chatty in ("sentence_transformers", "httpx"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        with ExitStack() as stack, ending_by_signal():
            made = _Made(
                stack, state_dir.absolute(), control_url, requests_url, SentenceModel(embedding_model),
                names=routes or [], options=options,
            )  # fmt: skip
            _run(made, options.every_s, say=_json if as_json else None)
    except NoSuchRoute as error:
        raise typer.BadParameter(str(error)) from error
    except StoreUnavailable as error:
        Console(stderr=True).print(
            f"turnout monitor: {error}", style="red", highlight=False, markup=False, soft_wrap=True
        )
        raise typer.Exit(1) from error
    except Stopped:
        logging.getLogger(__name__).info("ended by a signal")


class _Made:
    """The parts of the watch, made when the stores are there."""

    def __init__(
        self,
        stack: ExitStack,
        state_dir: Path,
        control_url: str | None,
        requests_url: str | None,
        encoder: Encoder,
        *,
        names: list[str],
        options: WatchOptions,
    ) -> None:
        self._stack = stack
        self._state_dir = state_dir
        self._urls = (control_url, requests_url)
        self._encoder = encoder
        self._names = names
        self._options = options
        self._rounds: Rounds | None = None

    def once(self, *, say: Callable[[Look], None] = lambda _: None) -> Round:
        """Make a round, and before the first one everything that it needs.

        Raises:
            StoreUnavailable: a store is not there.
            NoSuchRoute: one of the names is no route.
        """
        if self._rounds is None:
            self._rounds = self._make()
        return self._rounds.once(say=say)

    def _make(self) -> Rounds:
        with ExitStack() as opened:
            control, requests = (
                opened.enter_context(
                    closing(open_store(self._urls[0], "control", state_dir=self._state_dir))
                ),
                opened.enter_context(
                    closing(open_store(self._urls[1], "requests", state_dir=self._state_dir))
                ),
            )
            self._stack.push(opened.pop_all())
        stores = ControlStore(control), Requests(requests)
        vectors = Vectors(stores[1].embeddings, self._encoder)
        watcher = Watcher(*stores, vectors, options=self._options, languages=languages)
        reporter = Reporter(
            *stores,
            vectors,
            folder=self._state_dir / "reports",
            options=self._options,
            languages=languages,
        )
        return Rounds(stores[0], watcher, reporter, names=self._names, lease_s=self._options.lease_s)


def _run(made: _Made, every_s: float | None, *, say: Callable[[Round], None] | None) -> None:
    """Make one round, or round after round. `say` is told them whole; without it, people see each look."""
    console = Console(highlight=False, markup=False, soft_wrap=True)

    def shown(look: Look) -> None:
        if say is None:
            console.print(look.sentence)

    def done(found: Round) -> None:
        if say is not None:
            say(found)

    if every_s is not None:
        forever(lambda: made.once(say=shown), every_s=every_s, done=done)
        return
    found = made.once(say=shown)
    done(found)
    if found.failed:
        raise typer.Exit(1)


def _pinned(since: str | None, until: str | None, routes: list[str], *, now: float) -> Pinned | None:
    begin = o.moment(since, "--reference-since", now=now)
    end = o.moment(until, "--reference-until", now=now)
    if begin is None and end is not None:
        raise typer.BadParameter("--reference-until needs --reference-since")
    if begin is None:
        return None
    if len(routes) != 1:
        raise typer.BadParameter("a reference that you choose is for one ROUTE: name it")
    if end is not None and end <= begin:
        raise typer.BadParameter("the reference ends before it begins")
    return Pinned(begin, end)


def _json(found: Round) -> None:
    typer.echo(orjson.dumps(found.document()).decode())
