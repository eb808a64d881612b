"""What steps say, read with care."""

from typing import Any

import pytest

from gateway.loops.results import lacking

FEW: dict[str, Any] = {"set": "new", "rows": 98, "need": 147}


@pytest.mark.parametrize(
    ("document", "lacks"),
    [
        ({"verdict": "too_few_rows", "driver_question": FEW}, 1.5),
        ({"verdict": "failed", "driver_question": FEW}, None),
        ({"verdict": "too_few_rows", "driver_question": {**FEW, "set": "old"}}, None),
        ({"verdict": "too_few_rows", "driver_question": None}, None),
        ({"verdict": "too_few_rows"}, None),
        ({"verdict": "too_few_rows", "driver_question": {**FEW, "rows": 0}}, None),
        ({"verdict": "too_few_rows", "driver_question": {**FEW, "need": 98}}, None),
        ({"verdict": "too_few_rows", "driver_question": {**FEW, "need": "147"}}, None),
        ({"verdict": "too_few_rows", "driver_question": {**FEW, "rows": True}}, None),
        ({"verdict": "too_few_rows", "driver_question": [FEW]}, None),
        ({}, None),
    ],
)
def test_how_many_new_rows_a_gate_lacked(document: dict[str, Any], lacks: float | None) -> None:
    """Only where these were too few; a document that says something else says nothing of it."""
    assert lacking(document) == lacks
