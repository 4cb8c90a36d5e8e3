"""Server-sent events, split without being changed: sans-I/O, whatever the cuts in the bytes.

An event ends with a blank line; lines end with CRLF, LF or CR (WHATWG HTML, section 9.2). The bytes that come out,
joined, are the bytes that went in. `data_of` reads an event's payload.
"""

import re
from typing import Final

_END: Final = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_LINE: Final = re.compile(rb"\r\n|\n|\r")

LARGEST_EVENT_BYTES: Final = 16 * 2**20


class EventTooLarge(ValueError):
    """An event without an end in sight: the stream is not what it claims to be."""


class EventSplitter:
    """Collects bytes and gives out whole events with their own line ends."""

    __slots__ = ("_held", "_searched")

    def __init__(self) -> None:
        self._held = bytearray()
        self._searched = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The events that `data` completes. Raises `EventTooLarge`."""
        self._held += data
        events = []
        while (end := self._end()) is not None:
            events.append(bytes(self._held[:end]))
            del self._held[:end]
            self._searched = 0
        if len(self._held) > LARGEST_EVENT_BYTES:
            raise EventTooLarge(f"an event of a stream is larger than {LARGEST_EVENT_BYTES} bytes")
        return events

    def rest(self) -> bytes:
        """What came after the last whole event; the splitter is empty afterwards."""
        rest = bytes(self._held)
        self._held.clear()
        self._searched = 0
        return rest

    def _end(self) -> int | None:
        """Where the first event ends. A CR at the very end waits for the LF that may belong to it."""
        match = _END.search(self._held, self._searched)
        if match is not None and not (match.end() == len(self._held) and self._held[-1:] == b"\r"):
            return match.end()
        # An end may have begun in the last three bytes; what is before them was searched.
        self._searched = max(0, len(self._held) - 3)
        return None


def data_of(event: bytes) -> bytes:
    """An event's `data` lines joined by a line feed; empty where there are none (comments, other fields)."""
    if event.startswith(b"data:") and event.endswith(b"\n\n") and b"\n" not in event[:-2] and b"\r" not in event:
        return event[5:-2].removeprefix(b" ")
    lines = (line for line in _LINE.split(event) if line.startswith(b"data:"))
    return b"\n".join(line[5:].removeprefix(b" ") for line in lines)
