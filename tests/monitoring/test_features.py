"""Columns of recorded requests."""

import numpy as np

from monitoring.features import columns
from tests.monitoring.made import request_rows


def test_columns_keep_order_and_gaps() -> None:
    """Columns are as long as the rows; what a row lacks is a gap, and no finish reason shows the status."""
    rows = request_rows(["one", "three"], answer_chars=10)
    rows[1].answer, rows[1].finish_reason, rows[1].status, rows[1].ttft_ms = None, None, 499, None
    made = columns(rows)
    assert made.texts == ["one", "three"]
    assert made.ids == ["req-0", "req-1"]
    assert made.numbers["prompt_chars"].tolist() == [3, 5]
    assert np.isnan(made.numbers["answer_chars"][1])
    assert len(made.present("ttft_ms")) == 1
    assert made.finish_reason[1] == "status_499"


def test_no_rows_make_empty_columns() -> None:
    """An empty window has every column."""
    assert len(columns([]).present("latency_ms")) == 0
