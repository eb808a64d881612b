"""Server-sent events, cut where they end. Pure: any split of the same bytes gives the same events.

Events are returned as the bytes that came, terminator included, so that they can be passed on untouched.
Lines end with LF, CRLF or CR; an empty line ends an event (WHATWG HTML, section 9.2.6).
"""

import re

MAX_EVENT_BYTES = 8 * 1024 * 1024
# Two line ends in a row. A CR that an LF follows is one line end, never two.
_END = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
_LINE = re.compile(rb"\r\n|\n|\r")


class EventTooLarge(ValueError):
    """An event does not end within MAX_EVENT_BYTES."""


class Splitter:
    """Cuts a stream of bytes into events.

    What it looks for it finds with `find`: `in` tries the bytes as a number first, and makes an exception of
    that each time.
    """

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def lone(self, data: bytes) -> bytes | None:
        """Return what the event says when `data` is one whole event of one data line; else feed it.

        An engine sends nearly nothing else.
        """
        end = len(data) - 2
        if self._rest or not data.startswith(b"data: ") or data.find(b"\n") != end:
            return None
        return data[6:end] if data.endswith(b"\n\n") and data.find(b"\r") < 0 else None

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events that `data` completes.

        Raises:
            EventTooLarge: the event under way is over the limit.
        """
        rest = self._rest + data if self._rest else data
        events = []
        start = 0
        for match in _END.finditer(rest):
            end = match.end()
            if end == len(rest) and rest.endswith(b"\r"):
                break  # an LF may follow and belong to this line end
            events.append(rest[start:end])
            start = end
        self._rest = rest[start:]
        if len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLarge(f"an event is over {MAX_EVENT_BYTES} bytes")
        return events

    @property
    def rest(self) -> bytes:
        """The bytes of an event that has not ended."""
        return self._rest


def data_of(event: bytes) -> bytes | None:
    """Return an event's data, lines joined by LF; None when it has none (a comment, a keep-alive)."""
    if event.startswith(b"event: ") and event.find(b"\r") < 0:
        at = event.find(b"\n")
        if event.startswith(b"data: ", at + 1) and event.find(b"\n", at + 1) == len(event) - 2:
            return event[at + 7 : -2]  # a name, one line and its empty one
    lines = []
    for line in _LINE.split(event):
        if line.startswith(b"data:"):
            lines.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line == b"data":
            lines.append(b"")
    return b"\n".join(lines) if lines else None
