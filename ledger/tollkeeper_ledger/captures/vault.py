"""A store of captures and the keys to it: what the gateway hands over, and what somebody with the keys reads."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

import orjson

from tollkeeper.captures import Body, Capture
from tollkeeper_ledger.captures.sealing import Keys
from tollkeeper_ledger.captures.storage import CaptureStore, Sealed
from tollkeeper_ledger.rows import to_micros

_REQUEST: Final = "request"
_ANSWER: Final = "answer"


class Vault:
    """`Keeper` over a store. The type of a body is its caller's to say, so it lies sealed with the body."""

    def __init__(self, store: CaptureStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

    def keep(self, captures: Sequence[Capture]) -> None:
        """See `Keeper`."""
        self._store.add([self._sealed(one) for one in captures])

    def read(self, request_id: str, now: datetime) -> Capture | None:
        """A capture that is not over yet. Raises `KeyMissing`, `CaptureDamaged`, and what the store raises."""
        found = self._store.find(request_id, now)
        return self._opened(found) if found else None

    def _sealed(self, one: Capture) -> Sealed:
        sides = ((_REQUEST, one.request), (_ANSWER, one.answer))
        request, answer = (self._keys.seal(_written(body), _about(one, side), _terms(one)) for side, body in sides)
        return Sealed(one.request_id, one.tenant, one.captured_at, one.expires_at, one.status, request, answer)

    def _opened(self, one: Sealed) -> Capture:
        sides = ((_REQUEST, one.request), (_ANSWER, one.answer))
        request, answer = (_read(self._keys.unseal(sealed, _about(one, side), _terms(one))) for side, sealed in sides)
        return Capture(one.request_id, one.tenant, one.captured_at, one.expires_at, one.status, request, answer)


def _about(one: Capture | Sealed, side: str) -> tuple[str, ...]:
    """What a body belongs to: it opens nowhere else."""
    return f"tenant {one.tenant}", f"request {one.request_id}", f"body of the {side}"


def _terms(one: Capture | Sealed) -> tuple[int | None, ...]:
    """When it was captured, until when it is kept, both in microseconds, and the answer's status: nobody changes them."""
    return to_micros(one.captured_at), to_micros(one.expires_at), one.status


def _written(body: Body) -> bytes:
    """A line of what is known of a body, then the body."""
    head = {"type": body.content_type, "size": body.size, "truncated": body.truncated}
    return orjson.dumps(head, option=orjson.OPT_APPEND_NEWLINE) + body.content


def _read(plain: bytes) -> Body:
    head, _, content = plain.partition(b"\n")
    known = orjson.loads(head)
    return Body(known["type"], content, known["size"], known["truncated"])
