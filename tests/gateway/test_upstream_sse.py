"""Cutting and reading event streams."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.upstream import sse
from gateway.upstream.reading import Reading, StreamReading, WrongModel, read_whole
from gateway.upstream.sse import EventTooLarge, Splitter, data_of

LINE_END = st.sampled_from([b"\n", b"\r\n", b"\r"])
LINE = st.sampled_from(
    [b"data: {}", b"data:x", b": ping", b"event: e", b"data", b"id: 1", "data: ü✓".encode()]
)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """Lines and empty lines in any order, with any line ends, the last event perhaps unfinished."""
    lines = draw(st.lists(st.one_of(LINE, st.just(b"")), max_size=12))
    return b"".join(line + draw(LINE_END) for line in lines) + draw(st.sampled_from([b"", b"data: half"]))


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data, cut at these places."""
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def by_lines(data: bytes) -> list[bytes]:
    """Events by a slow reading of the standard: lines end with CRLF, LF or CR, an empty one ends an event."""
    events, event, line, i = [], b"", b"", 0
    while i < len(data):
        end = b"\r\n" if data[i : i + 2] == b"\r\n" else data[i : i + 1]
        i += len(end)
        event += end
        if end not in (b"\r\n", b"\n", b"\r"):
            line += end
        elif line or not event[: -len(end)]:
            # A line with something in it, or an empty line in front of an event, which ends nothing.
            line = b""
        else:
            events.append(event)
            event = b""
    return events


@given(streams(), st.lists(st.integers(0, 400), max_size=8))
def test_any_split_gives_the_same_events(data: bytes, places: list[int]) -> None:
    """However the bytes are cut, the events and the unfinished rest are the same."""
    whole, pieces = Splitter(), Splitter()
    expected = whole.feed(data)
    got = [event for piece in cut(data, places) for event in pieces.feed(piece)]
    assert got == expected
    assert pieces.rest == whole.rest
    assert b"".join([*got, pieces.rest]) == data


@given(streams())
def test_events_are_those_of_the_standard(data: bytes) -> None:
    """A slow reading of the standard finds the same events; only a final CR waits for a possible LF."""
    expected = by_lines(data)
    splitter = Splitter()
    got = splitter.feed(data)
    if splitter.rest.endswith(b"\r") and len(expected) > len(got):
        got.append(splitter.rest)
    assert got == expected


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (b"data: a\n\n", b"a"),
        (b"data:a\n\n", b"a"),
        (b"data:  a\r\n\r\n", b" a"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"event: e\rdata: a\r\r", b"a"),
        (b"event: e\ndata: a\n\n", b"a"),
        (b"event: e\ndata:a\n\n", b"a"),
        (b"event: e\ndata: a\ndata: b\n\n", b"a\nb"),
        (b"event: e\nid: 1\ndata: a\n\n", b"a"),
        (b"event: e\n\n", None),
        (b"data\n\n", b""),
        (b": ping\n\n", None),
        (b"\n\n", None),
    ],
)
def test_the_data_of_an_event(event: bytes, data: bytes | None) -> None:
    """Data lines are joined by LF, without the one space after the colon."""
    assert data_of(event) == data


def test_an_endless_event_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event that never ends does not fill the memory."""
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 100)
    splitter = Splitter()
    splitter.feed(b"x" * 100)
    with pytest.raises(EventTooLarge):
        splitter.feed(b"x")


def event(**fields: object) -> bytes:
    """A chunk of `a@1`."""
    return b"data: " + json.dumps({"id": "c-1", "model": "a@1", "choices": [], **fields}).encode() + b"\n\n"


def choice(text: str, finish: str | None = None) -> dict[str, object]:
    """A choice with a piece of text."""
    return {"index": 0, "delta": {"content": text}, "finish_reason": finish}


STREAM = (
    b": hello\n\n"
    + event(choices=[choice("one ")])
    + event(choices=[choice("two", "stop")])
    + event(usage={"prompt_tokens": 3, "completion_tokens": 2})
    + b"data: [DONE]\n\n"
)


@given(st.lists(st.integers(0, 500), max_size=8))
def test_what_is_read_in_a_stream(places: list[int]) -> None:
    """However the stream is cut, the same is read in it, and only the usage event is hidden."""
    reading = Reading("a@1", text_limit=100)
    stream = StreamReading(reading, hide_usage=True)
    passed = b"".join(stream.feed(piece) for piece in cut(STREAM, places))
    assert passed == STREAM.replace(event(usage={"prompt_tokens": 3, "completion_tokens": 2}), b"")
    assert (reading.text, reading.finish_reason, reading.answer_id) == ("one two", "stop", "c-1")
    assert (reading.prompt_tokens, reading.completion_tokens, reading.done) == (3, 2, True)


def test_another_version_is_refused_before_anything_passes() -> None:
    """The first event decides who answers."""
    with pytest.raises(WrongModel, match="b@2"):
        StreamReading(Reading("b@2"), hide_usage=False).feed(event())


def test_nothing_passes_after_the_engines_own_error() -> None:
    """An error event of the engine ends the stream; what came before it passes."""
    stream = StreamReading(Reading("a@1"), hide_usage=False)
    fault = b'data: {"error": {"message": "boom"}}\n\n'
    assert stream.feed(event() + fault + b"data: [DONE]\n\n") == event()
    assert "boom" in str(stream.engine_error)


@pytest.mark.parametrize("pieces", [1, 2])
def test_nothing_passes_after_the_end(pieces: int) -> None:
    """Behind the event that ends the answer there is nothing for the client, in its piece or in the next."""
    stream = StreamReading(Reading("a@1"), hide_usage=False)
    ending, behind = event() + b"data: [DONE]\n\n", b": more\n\n" + event()
    fed = [ending + behind] if pieces == 1 else [ending, behind]
    assert b"".join(stream.feed(piece) for piece in fed) == ending


@pytest.mark.parametrize("first", [b"data: nonsense\n\n", b"data: [1]\n\n"])
def test_a_first_event_that_is_no_object(first: bytes) -> None:
    """Who answers can't be told, so nothing passes."""
    with pytest.raises(ValueError, match=r".+"):
        StreamReading(Reading("a@1"), hide_usage=False).feed(first)


def test_kept_text_is_bounded() -> None:
    """Text is kept up to its limit, and not at all without one."""
    body = json.dumps({"model": "a@1", "choices": [{"message": {"content": "x" * 50}}]}).encode()
    for limit in (0, 10):
        reading = Reading("a@1", text_limit=limit)
        read_whole(body, reading)
        assert reading.text == "x" * limit


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>"])
def test_a_whole_answer_that_is_none(body: bytes) -> None:
    """What is no JSON object is no answer."""
    with pytest.raises(ValueError, match=r".+"):
        read_whole(body, Reading("a@1"))
