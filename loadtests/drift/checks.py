"""What a check costs by its rows, for `make bench-drift`: seconds and memory, in a process of its own."""

import multiprocessing
import time
from multiprocessing.connection import Connection

import numpy as np
import psutil

from loadtests.common.machine import peak_mb
from loadtests.drift.studies import calibrated, pair_of
from loadtests.drift.worlds import WORLDS, Traffic
from monitoring.detector.detector import Detector
from monitoring.detector.sample import DAY_S, DetectorOptions, Sample

_PART = 5_000


def check(rows: int) -> dict[str, float]:
    """Return seconds and MB of one check of so many rows, in parts of 5,000.

    `peak_mb` is how far above its size at the begin the process was at most, `process_mb` its largest size.
    """
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=_check, args=(rows, theirs))
    process.start()
    theirs.close()
    try:
        figures: dict[str, float] = mine.recv()
    finally:
        process.join()
    return figures


def _check(rows: int, pipe: Connection) -> None:
    pair = pair_of("easy")
    traffic = Traffic(pair, WORLDS["weekly"], 1)
    detector = Detector(calibrated(traffic.reference(), DetectorOptions(run_length=1e6), 1))
    random = np.random.default_rng(1)
    before = psutil.Process().memory_info().rss / 2**20
    began, cpu = time.perf_counter(), time.process_time()
    for start in range(0, rows, _PART):
        count = min(_PART, rows - start)
        places = random.integers(0, len(pair.usual), count)
        detector.update(
            Sample(
                vectors=pair.usual.vectors[places],
                numbers={"prompt_chars": pair.usual.chars[places]},
                at=2e9 + DAY_S * (start + np.arange(count)) / rows,
                units=[None] * count,
            )
        )
    pipe.send(
        {
            "s": round(time.perf_counter() - began, 2),
            "cpu_s": round(time.process_time() - cpu, 2),
            "peak_mb": round(peak_mb() - before, 1),
            "process_mb": round(peak_mb(), 1),
        }
    )
