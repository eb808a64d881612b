"""What drawing a look's requests costs by the rows of the store, for `make bench-drift`: seconds, memory."""

import multiprocessing
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import psutil

from gateway.store.database import Database
from gateway.store.requests import Requests
from gateway.store.traffic import Period
from loadtests.common.machine import peak_mb
from loadtests.retention.rows import DAY_S, fill

DAYS = 30
DRAWN = 2000  # what a look takes of a day at most
_PROMPT = '[{"role": "user", "content": "' + "What became of my parcel? " * 8 + '"}]'


def draw(rows: int) -> dict[str, float]:
    """Return seconds and MB of counting and drawing prompts of a month of so many, in SQLite.

    `peak_mb` is how far above its size at the begin the process was at most.
    """
    with tempfile.TemporaryDirectory(prefix="drift-draws-") as folder:
        url = f"sqlite:///{Path(folder) / 'requests.db'}"
        now = time.time()
        database = Database(url, "requests", durable=False)
        try:
            database.migrate()
            fill(database, rows, since=now - DAYS * DAY_S, until=now, routes=1, prompt=_PROMPT)
        finally:
            database.close()
        context = multiprocessing.get_context("spawn")
        mine, theirs = context.Pipe()
        process = context.Process(target=_draw, args=(url, now, theirs))
        process.start()
        theirs.close()
        try:
            figures: dict[str, float] = mine.recv()
        finally:
            process.join()
    return figures


def _draw(url: str, now: float, pipe: Connection) -> None:
    database = Database(url, "requests")
    traffic = Requests(database).traffic
    period = Period("route-0", now - DAYS * DAY_S, now)
    before = psutil.Process().memory_info().rss / 2**20
    began = time.perf_counter()
    counted = traffic.count(period)
    drawn = traffic.rows(traffic.sample(period, limit=DRAWN))
    took = time.perf_counter() - began
    pipe.send(
        {
            "s": round(took, 2),
            "peak_mb": round(peak_mb() - before, 1),
            "counted": counted,
            "drawn": len(drawn),
        }
    )
    database.close()
