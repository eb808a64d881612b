"""References drawn from many prompts: how alike rows are, what is new to them, and the pace of a budget."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.store.watches import WatchRow
from monitoring.detector.calibration import Calibration
from monitoring.watch.references import Reference
from tests.monitoring.made import ROUTE, request_rows, sentences
from tests.monitoring.watch.made import DAY, OPTIONS, House, house

pytestmark = pytest.mark.slow

_SESSION = 8


def _sessions(made: House, *, days: float, a_day: int, seed: int, own_words: bool = False) -> None:
    """Record sessions of eight prompts without a subject: all alike, or with words that only they have."""
    count, draw = round(days * a_day), random.Random(seed)
    names = ["".join(draw.choices("abcdefghij", k=9)) for _ in range(-(-count // _SESSION))]
    if own_words:
        films = sentences("films", count, seed=seed)
        prompts = [f"{film} {names[place // _SESSION]}" for place, film in enumerate(films)]
    else:
        films = sentences("films", len(names), seed=seed)
        prompts = [films[place // _SESSION] for place in range(count)]
    rows = request_rows(prompts, seed=seed)
    for place, row in enumerate(rows):
        row.at = made.now + place * DAY / a_day
        row.id = f"req-{int(row.at):08x}{draw.getrandbits(64):016x}"
    made.requests.write(rows)
    made.now += days * DAY


def _stands(made: House) -> tuple[WatchRow, Reference]:
    stands = made.control.watches.get(ROUTE)
    assert stands is not None
    kept = made.control.watches.reference(ROUTE, stands.reference)
    assert kept is not None
    return stands, Reference.of(kept)


def _calibrated(folder: Path, rows: int) -> Calibration:
    with house(folder, replace(OPTIONS, reference_rows=rows, min_rows=400)) as made:
        _sessions(made, days=2.2, a_day=1500, seed=1)
        made.look()
        reference = _stands(made)[1]
        assert reference.counted == 3000
        assert min(rows, 3000) <= reference.rows < min(rows, 3000) + 40
        return reference.calibration


def test_a_drawn_reference_knows_how_alike_rows_are(tmp_path: Path) -> None:
    """The design effect of 600 rows that were drawn from 3,000 is that of all of them."""
    drawn, every = _calibrated(tmp_path / "drawn", 600), _calibrated(tmp_path / "every", 10_000)
    assert 5 < drawn.reference.design_effect < 10
    assert drawn.reference.design_effect == pytest.approx(every.reference.design_effect, rel=0.25)


def test_words_of_sessions_are_as_new_as_before(tmp_path: Path) -> None:
    """Sessions without a subject that each have words of their own are no alarm; words in every row are."""
    with house(tmp_path, replace(OPTIONS, min_rows=400, look_rows=2000)) as made:
        _sessions(made, days=2.2, a_day=2000, seed=1, own_words=True)
        made.look()
        for seed in (2, 3):
            _sessions(made, days=0.5, a_day=2000, seed=seed, own_words=True)
            assert made.look().figures["severity"] == "ignore"
        made.traffic("cooking", days=0.5, a_day=2000, seed=4)
        assert made.look().figures["severity"] == "retrain"


def test_signals_use_up_their_budget_as_fast_as_the_prompts(tmp_path: Path) -> None:
    """Of a reference that was drawn, the run length of a signal is by all prompts that could show it."""
    with house(tmp_path, replace(OPTIONS, reference_rows=1000, settle_s=600)) as made:
        made.traffic("films", days=2.5, a_day=1500, seed=1)
        made.look()
        stands, reference = _stands(made)
        assert reference.counted == pytest.approx(3000, abs=2)
        assert 1000 <= reference.rows < 1040
        options: dict[str, Any] = stands.state["ratings"]["asked_again"]["state"]["options"]
        assert options["run_length"] == pytest.approx(reference.calibration.options.run_length, rel=1e-6)


def test_the_pace_is_that_from_the_first_prompt_on(tmp_path: Path) -> None:
    """A version that nobody asked anything for ten days has the pace of the days since."""
    with house(tmp_path) as made:
        made.now += 10 * DAY
        made.traffic("films", days=2.5, a_day=400, seed=1)
        made.look()
        run_length = _stands(made)[1].calibration.options.run_length
        assert run_length == pytest.approx(400 * 30 * 8, rel=0.01)
