"""Figures of `bench-overhead`: medians, differences to the direct run, and what a missing system leaves."""

from typing import Any

from loadtests.common.quantiles import median, quantile
from loadtests.overhead.figures import disturbance, figures_of, sheet_of

SYSTEMS = ["direct", "litellm", "turnout"]


def _round(*, cpu_us: float | None, p50_us: float) -> dict[str, Any]:
    spread = {"p50": 100, "p99": 200, "p999": 300, "max": 400}
    request = {"cpu_us_per_request": cpu_us, "p50_us": p50_us, "p99_us": p50_us * 2, "throughput_rps": 1000.4}
    return {
        "one_connection": request,
        "saturated": {**request, "others_on_core": None if cpu_us is None else 0.1},
        "saturated_32kb": request,
        "half_load": request,
        "half_load_32kb": request,
        "streams": {
            "cpu_us_per_chunk": cpu_us,
            "streams": 200,
            "reads": 100,
            "coalesced_reads": 5,
            "delay_us": spread,
        },
        "memory": {} if cpu_us is None else {"rss_mb": 50.0},
    }


def _figures() -> dict[str, Any]:
    rounds = {
        "direct": [
            _round(cpu_us=None, p50_us=10),
            _round(cpu_us=None, p50_us=30),
            _round(cpu_us=None, p50_us=20),
        ],
        "litellm": [],
        "turnout": [
            _round(cpu_us=40, p50_us=110),
            _round(cpu_us=60, p50_us=150),
            _round(cpu_us=44, p50_us=140),
        ],
    }
    settings = {"rounds": 3, "seconds": 1.0}
    return figures_of(rounds, missing={"litellm": "no such package"}, failed={}, settings=settings)


def test_every_figure_is_the_median_of_the_rounds() -> None:
    """One odd round does not move a figure."""
    figures = _figures()
    assert figures["cpu_us_per_request"]["turnout"] == 44
    assert figures["throughput_rps"]["turnout"] == 1000
    assert figures["rss_mb"]["turnout"] == 50
    assert figures["more"]["streams"]["coalesced_share"]["turnout"] == 0.05


def test_added_latency_is_taken_round_by_round() -> None:
    """The direct latency of the same round is subtracted, then the median taken: 100, 120, 120."""
    figures = _figures()
    assert figures["added_latency_p50_us"] == {"direct": 0, "litellm": None, "turnout": 120}


def test_a_missing_system_is_reported() -> None:
    """It has null in every figure, its reason under `more`, and a row and a note in the table."""
    figures = _figures()
    assert figures["cpu_us_per_request"]["litellm"] is None
    assert figures["more"]["missing"] == {"litellm": "no such package"}
    sheet = sheet_of(figures, SYSTEMS)
    assert [row[0] for row in sheet.rows] == SYSTEMS
    assert set(sheet.rows[1][1:]) == {"-"}
    assert "litellm is missing: no such package" in sheet.notes


def test_what_spoils_a_run_is_said() -> None:
    """Events that coalesced are noted for their system; the others' share of the core is the largest seen."""
    figures = _figures()
    figures["more"]["streams"]["coalesced_share"]["turnout"] = 0.7
    notes = sheet_of(figures, SYSTEMS).notes
    assert any(note.startswith("turnout: 70% of the reads") for note in notes)
    assert disturbance(figures) == 0.1


def test_quantiles_are_values_that_were_measured() -> None:
    """The rank is rounded up; without values it is 0, and a median ignores what is unknown."""
    hundred = list(range(1, 101))
    assert [quantile(hundred, share) for share in (0.5, 0.99, 0.999, 1.0)] == [50, 99, 100, 100]
    assert quantile([], 0.5) == 0
    assert median([None, 3.0, 1.0]) == 2.0
    assert median([None]) is None
