"""How chaos counts: which requests met a fault, what their clients saw, and when a run is clean."""

import pytest

from loadtests.chaos.run import Record, Seen, _error_of, clean, figures_of
from loadtests.common.plain_client import Answer

SEEN = [
    Seen(0.0, 1.0),
    Seen(9.0, 11.0, "502 replica_died"),
    Seen(12.0, 13.0),
    Seen(14.0, 14.5, "ConnectionResetError: ", explained=False),
    Seen(16.0, 17.0, "503 no_replica"),
]


def test_requests_belong_to_the_fault_that_they_met() -> None:
    """From the injection to the recovery; an error outside is counted as such."""
    figures = figures_of([Record("kill", 10.0, 15.0)], SEEN, lost=0, acknowledged=7, left_out=[])
    assert figures["faults"]["kill"] == {
        "injected": 1,
        "recovered": 1,
        "requests": 3,
        "client_errors": 2,
        "recovery_s_max": 5.0,
        "unexplained": 1,
        "errors": {"502 replica_died": 1, "ConnectionResetError: ": 1},
    }
    assert figures["more"]["errors_between"] == 1
    assert clean(figures)


@pytest.mark.parametrize(
    ("record", "lost"),
    [
        (Record("kill", 10.0, None, lacking="no controller"), 0),
        (Record("kill", 10.0, 11.0, wrong="an adapter was added to a full disk"), 0),
        (Record("kill", 10.0, 11.0), 1),
    ],
)
def test_what_is_not_clean(record: Record, lost: int) -> None:
    """A fault without an end, something that must never happen, or a lost write."""
    assert not clean(figures_of([record], SEEN, lost=lost, acknowledged=7, left_out=[]))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(200, {"content-type": "application/json"}, b"{}"), None),
        (Answer(503, {}, b'{"error": {"code": "no_replica"}}'), "503 no_replica"),
        (Answer(200, {"content-type": "text/event-stream"}, b"data: {}\n\ndata: [DONE]\n\n"), None),
        (
            Answer(
                200, {"content-type": "text/event-stream"}, b'data: {"error": {"code": "replica_died"}}\n\n'
            ),
            "in the stream: replica_died",
        ),
    ],
)
def test_what_a_client_saw(answer: Answer, error: str | None) -> None:
    """An error is named by its code, alone or in a stream."""
    assert _error_of(answer) == error


def test_a_stream_that_just_ends_is_not_explained() -> None:
    """Neither its end nor an error: the client can't know what happened."""
    with pytest.raises(ValueError, match="without its end"):
        _error_of(Answer(200, {"content-type": "text/event-stream"}, b"data: {}\n\n"))
