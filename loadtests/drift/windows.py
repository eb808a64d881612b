"""Methods that look once at two windows, for `make bench-drift`: Evidently's, and that of `monitor run`."""

import warnings
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from loadtests.drift.studies import pair_of
from monitoring.mmd import mmd_test

WINDOW = 500
ALPHA = 0.05
_PERMUTATIONS = 199


def methods() -> dict[str, Callable[[NDArray[np.float32], NDArray[np.float32]], bool]]:
    """Return the methods: (reference, current) to whether they alarm. The first five are Evidently's."""
    from evidently.legacy.metrics.data_drift.embedding_drift_methods import (  # noqa: PLC0415 - seconds to import
        distance,
        mmd,
        model,
        ratio,
    )

    return {
        "evidently_distance": partial(_evidently, distance()),
        "evidently_mmd": partial(_evidently, mmd()),
        "evidently_mmd_bootstrap": partial(_evidently, mmd(bootstrap=True)),
        "evidently_mmd_bootstrap_95": partial(_evidently, mmd(bootstrap=True, quantile_probability=0.95)),
        "evidently_ratio": partial(_evidently, ratio()),
        "evidently_model": partial(_evidently, model()),
        "permutation_mmd": _permutation,
    }


def alarms(pair: str, seed: int, *, shifts: tuple[float, ...]) -> dict[float, dict[str, bool]]:
    """Return by shift and method whether a window of 500 rows alarms against a reference of 500 others."""
    texts = pair_of(pair)
    random = np.random.default_rng(seed)
    order = random.permutation(len(texts.usual))
    reference, later = texts.usual.vectors[order[:WINDOW]], texts.usual.vectors[order[WINDOW : 2 * WINDOW]]
    found = {}
    for shift in shifts:
        current = later.copy()
        moved = np.flatnonzero(random.random(WINDOW) < shift)
        current[moved] = texts.shifted.vectors[random.choice(len(texts.shifted), len(moved), replace=False)]
        found[shift] = {name: method(reference, current) for name, method in _held().items()}
    return found


@lru_cache(maxsize=1)
def _held() -> dict[str, Callable[[NDArray[np.float32], NDArray[np.float32]], bool]]:
    return methods()


def _evidently(method: Any, reference: NDArray[np.float32], current: NDArray[np.float32]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pandas, about a column that the method adds
        _, drifted, _ = method(pd.DataFrame(current), pd.DataFrame(reference))
    return bool(drifted)


def _permutation(reference: NDArray[np.float32], current: NDArray[np.float32]) -> bool:
    result = mmd_test(reference.astype(np.float64), current.astype(np.float64), permutations=_PERMUTATIONS)
    return result.p_value <= ALPHA
