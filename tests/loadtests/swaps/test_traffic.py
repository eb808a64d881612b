"""How the storm's requests are judged: which version was right when, and what counts as failed."""

import pytest

from loadtests.common.plain_client import Answer
from loadtests.swaps.traffic import Seen, Traffic, figures_of, stale

FLIPS = [(100.0, "r@1"), (110.0, "r@2"), (120.0, "r@1"), (130.0, "r@3")]


def seen(start: float, label: str | None, *, end: float | None = None, phase: str = "steady") -> Seen:
    """A request that took half a second unless told otherwise."""
    return Seen(start, start + 0.5 if end is None else end, phase, label, None, None)


@pytest.mark.parametrize(
    ("start", "label", "late"),
    [
        (105.0, "r@1", False),
        (110.9, "r@1", False),
        (111.1, "r@1", True),
        (109.8, "r@2", False),
        (109.2, "r@2", True),
        (120.5, "r@2", False),
        (121.1, "r@1", False),
        (121.1, "r@2", True),
        (200.0, "r@3", False),
        (200.0, "r@2", True),
    ],
)
def test_which_version_was_right(start: float, label: str, late: bool) -> None:
    """Those of the second before the request began and of its own time; a rollback brings old ones back."""
    assert bool(stale([seen(start, label)], FLIPS)) is late


def test_a_request_without_a_version_is_not_stale() -> None:
    """It failed, which is counted elsewhere."""
    assert stale([seen(200.0, None)], FLIPS) == []


def test_the_figures() -> None:
    """Counts, latencies by phase without the failed, and how long a version outlived its time."""
    requests = [
        seen(105.0, "r@1"),
        seen(114.0, "r@1", phase="swapping"),
        seen(115.0, "r@2", end=117.0, phase="swapping"),
        Seen(116.0, 117.0, "swapping", None, "503", None),
        Seen(116.0, 117.0, "steady", "r@2", None, "another text"),
    ]
    figures = figures_of(requests, FLIPS)
    assert {name: figures[name] for name in ("requests", "failed", "wrong_version", "stale_after_flip")} == {
        "requests": 5,
        "failed": 1,
        "wrong_version": 1,
        "stale_after_flip": 1,
    }
    assert (figures["p99_ms_steady"], figures["p99_ms_swapping"]) == (1000.0, 2000.0)
    assert figures["more"]["longest_stale_s"] == 4.0


WHOLE = b'{"model": "r@1", "choices": [{"text": "r@1: w1"}]}'
STREAM = (
    b'data: {"model": "r@1", "choices": [{"text": "r@1: "}]}\n\ndata: {"model": "r@1", "choices": []}\n\n'
)


@pytest.mark.parametrize(
    ("body", "stream", "label", "failed", "wrong"),
    [
        (WHOLE, False, "r@1", False, False),
        (WHOLE, False, "r@2", False, True),
        (WHOLE[:-3], False, "r@1", True, False),
        (WHOLE.replace(b"r@1: w1", b"else"), False, "r@1", False, True),
        (STREAM + b"data: [DONE]\n\n", True, "r@1", False, False),
        (STREAM, True, "r@1", True, False),
        (b'data: {"error": {"message": "x"}}\n\ndata: [DONE]\n\n', True, "r@1", True, False),
    ],
)
def test_what_an_answer_proves(body: bytes, stream: bool, label: str, failed: bool, wrong: bool) -> None:
    """Header, body and text must name one version; half an answer is a failed one."""

    def check(name: str, text: str, _token: str | None) -> str | None:
        return None if text.startswith(f"{name}:") else "another text"

    traffic = Traffic("http://x", "r", "p", 4, check=check, ask_logprobs=False)
    found = traffic._judge(Answer(200, {}, body), label, stream=stream)
    assert (found[0] is not None, found[1] is not None) == (failed, wrong)
