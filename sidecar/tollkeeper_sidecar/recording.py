"""One request's bodies while they are relayed: what of them is remembered, within bounds (R27)."""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from tollkeeper.captures import Body, Capture, KeptBodies
from tollkeeper.patterns import Deadline, within
from tollkeeper.redacting import redacted_body

MARGIN_BYTES: Final = 16 * 1024
"""So much more than is kept is remembered until it is redacted, and left out then, where a body was cut: half of a secret at
the cut does not look like one."""

LONGEST_TYPE: Final = 128
STREAM_TYPE: Final = "text/event-stream"


class Room:
    """Bytes that bodies in memory take: `most` all together, and `share` those of one tenant; from several threads."""

    def __init__(self, most: int, share: int) -> None:
        self._most = most
        self._share = share
        self._taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def take(self, tenant: str, count: int) -> bool:
        """Take so many, if there are as many."""
        with self._lock:
            if self._taken.total() + count > self._most or self._taken[tenant] + count > self._share:
                return False
            self._taken[tenant] += count
            return True

    def give_back(self, tenant: str, count: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._taken[tenant] -= count
            if not self._taken[tenant]:
                del self._taken[tenant]

    @property
    def is_mostly_free(self) -> bool:
        """Whether nobody, nor all together, takes more than half of it."""
        with self._lock:
            each = tuple(self._taken.values())
        return 2 * sum(each) <= self._most and all(2 * one <= self._share for one in each)


@dataclass(frozen=True, slots=True)
class Remembered:
    """A body as it was seen: its beginning, its type, and how many bytes it had."""

    content_type: str
    content: bytes
    size: int


@dataclass(frozen=True, slots=True)
class About:
    """Whose bodies these are, since when, and how they are kept."""

    request_id: str
    tenant: str
    at: datetime
    kept: KeptBodies


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request with its answer, before redaction. `taken` is what it takes of the room."""

    about: About
    status: int
    request: Remembered
    answer: Remembered
    taken: int

    def capture(self, largest: int, deadline: Deadline) -> Capture:
        """What is kept of it: redacted, then cut at so many bytes. Raises `TookTooLong`."""
        about = self.about
        with within(deadline):
            bodies = [self._body(one, largest) for one in (self.request, self.answer)]
        expires = about.at + about.kept.retention
        return Capture(about.request_id, about.tenant, about.at, expires, self.status, *bodies)

    def _body(self, body: Remembered, largest: int) -> Body:
        is_stream = body.content_type.lower().startswith(STREAM_TYPE)
        content = redacted_body(body.content, self.about.kept.redaction, is_stream=is_stream)
        is_cut = body.size > len(body.content)
        # Redaction may have made it much shorter; what is half of a secret still stands at its end.
        most = min(largest, max(0, len(content) - MARGIN_BYTES)) if is_cut else largest
        return Body(body.content_type, content[:most], body.size, is_cut or len(content) > most)


Ended = Callable[[Recorded | None], None]
"""Gets what was recorded of a request that was passed on; nothing, where there was no room for it."""


class Recording:
    """Remembers the beginning of both bodies of a request, `most` bytes of each. Whatever happens to it, `end` comes last."""

    __slots__ = ("_about", "_answer", "_ended", "_headers", "_most", "_request", "_room", "_size", "_status", "_taken")

    def __init__(self, about: About, most: int, room: Room, ended: Ended) -> None:
        self._about = about
        self._most = most
        self._room = room
        self._ended = ended
        self._taken = 0
        self._request: Remembered | None = None
        self._answer = bytearray()
        self._size = 0
        self._status: int | None = None
        self._headers: Mapping[str, str] = {}

    def asked(self, content_type: str, body: bytes) -> None:
        """The request's body, as its caller sent it."""
        content = body[: self._most]
        if self._take(len(content)):
            self._request = Remembered(_type(content_type), content, len(body))

    def answers(self, status: int, headers: Mapping[str, str]) -> None:
        """The request was passed on, and so its answer begins. The last word counts."""
        self._status = status
        self._headers = headers

    def add(self, data: bytes) -> None:
        """The next part of the answer that the caller got."""
        self._size += len(data)
        part = data[: max(0, self._most - len(self._answer))]
        if not part or self._request is None or not self._is_readable:
            return
        if self._take(len(part)):
            self._answer += part
        else:
            self._request = None

    def end(self) -> None:
        """No more comes. A request that was never passed on leaves nothing."""
        if self._status is None or self._request is None:
            self._room.give_back(self._about.tenant, self._taken)
        if self._status is not None:
            self._ended(self._recorded(self._status))

    def _recorded(self, status: int) -> Recorded | None:
        if self._request is None:
            return None
        answer = Remembered(_type(self._headers.get("Content-Type", "")), bytes(self._answer), self._size)
        return Recorded(self._about, status, self._request, answer, self._taken)

    @property
    def _is_readable(self) -> bool:
        """What is compressed cannot be redacted, so it is not kept."""
        return self._headers.get("Content-Encoding", "identity").lower() == "identity"

    def _take(self, count: int) -> bool:
        taken = self._room.take(self._about.tenant, count)
        self._taken += count * taken
        return taken


def _type(header: str) -> str:
    """A type of content as text that can be stored: a header may have any bytes."""
    return header[:LONGEST_TYPE].encode("ascii", "replace").decode()
