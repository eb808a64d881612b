"""A reference becomes a calibration, or an answer that says what it lacks."""

import io
import json

import numpy as np
import pytest

from monitoring.detector.calibration import LEARNED_SHARE, Calibration, calibrate
from monitoring.detector.levels import part_deviation
from monitoring.detector.sample import DetectorOptions, Sample, TooLittle, one_a_day
from tests.monitoring.detector.made import SMALL, calibrated, sample


@pytest.mark.parametrize(
    ("rows", "days"),
    [(0, 8), (999, 8), (1500, 6.9)],
)
def test_too_little_is_an_answer(rows: int, days: float) -> None:
    """Too few rows or days give what there is and what is needed, in figures and in words."""
    found = calibrate(sample(rows, seed=1, days=days), SMALL)
    assert isinstance(found, TooLittle)
    assert (found.rows, found.need_rows, found.need_days) == (rows, 1000, 7)
    assert str(rows) in found.reason


def test_a_calibration_survives_json_and_npz() -> None:
    """Document and arrays, written without pickle and read again, are the same calibration."""
    before = calibrated()
    file = io.BytesIO()
    np.savez(file, **before.arrays())
    file.seek(0)
    with np.load(file, allow_pickle=False) as arrays:
        after = Calibration.from_document(json.loads(json.dumps(before.document())), dict(arrays))
    assert after.fingerprint == before.fingerprint
    assert after.options == before.options
    assert after.streams == before.streams == ["embedding", "prompt_chars"]


@pytest.mark.parametrize("document", [{}, {"version": 99}, {"version": 1}])
def test_what_is_no_calibration_is_refused(document: dict[str, int]) -> None:
    """Another version, or a document that lacks parts, is a ValueError."""
    with pytest.raises(ValueError, match=r"version|calibration"):
        Calibration.from_document(document, {})


def test_the_risk_is_shared_as_the_bets_are() -> None:
    """All regions, with what is kept for learned ones, share the risk once, most of it for novelty."""
    calibration = calibrated()
    regions = calibration.regions
    assert regions.weight.sum() * SMALL.risk + calibration.learned_risk == pytest.approx(SMALL.risk)
    novel, cluster = (
        next(p for p, name in enumerate(regions.name) if word in name) for word in ("novel", "cluster")
    )
    assert regions.weight[novel] > 5 * regions.weight[cluster]


def test_every_bound_is_above_its_level() -> None:
    """A region's bound pays for the reference's size and the tolerance."""
    regions = calibrated().regions
    assert len(regions) > 20
    assert (regions.bound >= regions.found + SMALL.tolerance).all()
    assert regions.weight.sum() == pytest.approx(0.5 * (1 - LEARNED_SHARE) + 0.5)


def test_novel_rows_have_no_stratum() -> None:
    """Rows like the reference have a cluster, rows unlike it have -1."""
    calibration = calibrated()
    usual, novel = sample(300, seed=5), sample(300, seed=6, shift=1.0)
    assert (calibration.strata(usual.vectors) >= 0).mean() > 0.85
    assert (calibration.strata(novel.vectors) == -1).mean() > 0.5


def test_a_reference_without_embeddings_or_with_gaps_is_calibrated() -> None:
    """No vectors leave the numbers; a number that is mostly absent is only watched for being present."""
    rows = sample(1500, seed=3)
    rare = np.full(1500, np.nan)
    rare[::100] = 1.0
    found = calibrate(
        Sample(rows.vectors[:, :0], {"refused": np.zeros(1500), "rare": rare}, rows.at, rows.units), SMALL
    )
    assert isinstance(found, Calibration)
    assert found.streams == ["rare", "refused"]


def test_a_subject_is_on_one_side_and_few_subjects_do_no_harm() -> None:
    """References by many subjects, or all by one, are split into shape and level rows."""
    for rows in (sample(1500, seed=3, units=True), sample(1500, seed=3)):
        found = calibrate(rows, SMALL)
        assert isinstance(found, Calibration)
        assert 600 < found.reference.level_count < 1200
    one = Sample(rows.vectors, rows.numbers, rows.at, ["u"] * 1500)
    found = calibrate(one, SMALL)
    assert isinstance(found, Calibration)
    assert 400 < found.reference.level_count < 1300


def test_every_row_of_a_large_reference_is_used() -> None:
    """Rows that follow each other are not thinned: how alike they are would be lost."""
    found = calibrate(sample(25_000, seed=3), DetectorOptions(min_rows=1000))
    assert isinstance(found, Calibration)
    assert found.rows == len(found.coordinates) == len(found.reference.level) == 25_000


def test_a_calibration_of_before_is_read() -> None:
    """The options once had a number of rows to thin to, and the reference's rows no part of the day."""
    before = calibrated()
    document = before.document()
    document["options"]["most_rows"] = 20_000
    arrays = before.arrays()
    del arrays["reference_parts"]
    after = Calibration.from_document(document, arrays)
    assert (after.fingerprint, after.options) == (before.fingerprint, before.options)
    assert not part_deviation(after.coordinates > 0, after.reference).any()


def test_one_row_a_subject_and_day_is_kept() -> None:
    """The first row of a subject's day stays, and every row without a subject."""
    at = np.array([0.0, 1.0, 2.0, 86_400.0, 86_401.0])
    rows = Sample(np.zeros((5, 0)), {"n": np.arange(5.0)}, at, ["a", "a", None, None, "a"])
    kept = one_a_day(rows)
    assert kept.numbers["n"].tolist() == [0, 2, 3, 4]
    assert kept.units == ["a", None, None, "a"]


@pytest.mark.parametrize(
    ("at", "units", "message"),
    [([1.0, 0.0], [None, None], "oldest first"), ([0.0, 1.0], [None], "rows")],
)
def test_samples_that_contradict_themselves_are_refused(
    at: list[float], units: list[str | None], message: str
) -> None:
    """Columns of different lengths and falling times are a ValueError."""
    with pytest.raises(ValueError, match=message):
        Sample(np.zeros((2, 0)), {}, np.array(at), units)


def test_vectors_that_are_not_finite_are_refused() -> None:
    """A vector of NaN, which would spoil everything that is learned after it, is a ValueError."""
    with pytest.raises(ValueError, match="not finite"):
        Sample(np.full((1, 3), np.nan), {}, np.zeros(1), [None])
