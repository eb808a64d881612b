"""Checks without the libraries that take seconds to import, unless a test wants them."""

from collections.abc import Callable

import pytest

from training.data import check, personal


@pytest.fixture
def light(monkeypatch: pytest.MonkeyPatch) -> None:
    """Personal data is found by the gateway's own patterns, and every text is in English."""
    monkeypatch.setattr(personal, "finder", lambda _model=None: personal.by_form)
    spoken: Callable[[list[str]], tuple[str, ...]] = lambda texts: ("en",) * len(texts)  # noqa: E731 - one line
    monkeypatch.setattr(check, "languages", spoken)
