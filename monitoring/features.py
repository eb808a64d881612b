"""Recorded requests as columns: lengths, latency, how the answer ended, and the prompts to embed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.core.requests import RequestRow
from monitoring.permutation import FloatArray

NUMBERS = ("prompt_chars", "prompt_tokens", "answer_chars", "answer_tokens", "latency_ms", "ttft_ms")


@dataclass(frozen=True, slots=True)
class Columns:
    """One window as columns of equal length. NaN stands for a value that a row does not have.

    `finish_reason` is `status_N` for a request that ended without one. `texts` are what is embedded.
    """

    ids: list[str]
    numbers: dict[str, FloatArray]
    finish_reason: list[str]
    texts: list[str]

    def present(self, name: str) -> FloatArray:
        """Return the values of a numeric column without its gaps."""
        values = self.numbers[name]
        finite: FloatArray = values[np.isfinite(values)]
        return finite


def columns(rows: Sequence[RequestRow]) -> Columns:
    """Turn rows into columns, in their order. Lengths are of the text as recorded (redacted, cut)."""
    prompts = [row.prompt or "" for row in rows]
    values: dict[str, list[float | int | None]] = {
        "prompt_chars": [len(prompt) for prompt in prompts],
        "prompt_tokens": [row.prompt_tokens for row in rows],
        "answer_chars": [None if row.answer is None else len(row.answer) for row in rows],
        "answer_tokens": [row.completion_tokens for row in rows],
        "latency_ms": [row.latency_ms for row in rows],
        "ttft_ms": [row.ttft_ms for row in rows],
    }
    return Columns(
        ids=[row.id for row in rows],
        numbers={name: np.array(values[name], dtype=np.float64) for name in NUMBERS},
        finish_reason=[row.finish_reason or f"status_{row.status}" for row in rows],
        texts=prompts,
    )
