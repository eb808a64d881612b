"""Checks without the libraries that take seconds to import, unless a test wants them."""

from collections.abc import Sequence

import pytest

from training.data import check, personal


def _english(texts: Sequence[str]) -> tuple[str, ...]:
    return ("en",) * len(texts)


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Personal data is found by the gateway's own patterns, and every text is in English."""
    monkeypatch.setattr(personal, "finder", lambda _model=None: personal.by_form)
    monkeypatch.setattr(check, "languages", _english)
