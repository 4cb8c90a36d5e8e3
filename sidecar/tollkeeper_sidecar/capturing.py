"""Bodies on their way to where they are kept (R27): a bounded queue, and one thread that redacts and hands over.

No tenant has more than a part of the queue and its room, or of the thread's time while others want it.

They are no part of accounting. Whatever fails here changes nothing of a request: what finds no room, or cannot be kept, is
dropped, counted, and told in the log once. Nothing leaves this process before it is redacted.
"""

import asyncio
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

import structlog

from tollkeeper.captures import Capture, Keeper, KeptBodies
from tollkeeper.errors import TollkeeperError, Unavailable, shown
from tollkeeper.patterns import Deadline, TookTooLong
from tollkeeper.policy import CurrentPolicy, TenantNode
from tollkeeper.redactionrules import Redaction
from tollkeeper_sidecar.metrics import Metrics
from tollkeeper_sidecar.recording import MARGIN_BYTES, About, Recorded, Recording, Room
from tollkeeper_sidecar.tasks import Faults
from tollkeeper_sidecar.turns import Turns

MOST_WAITING: Final = 1024
PARTS: Final = 4
"""No tenant has more than one of so many parts of what there is room for: whoever waits long for itself waits alone."""

AT_ONCE: Final = 32
BYTES_AT_ONCE: Final = 4 * 2**20
SECONDS_AT_ONCE: Final = 1.0
FINISH_SECONDS: Final = 5.0
GIVE_UP_SECONDS: Final = 10.0
"""What is under way then ends by itself after so long: a search of RE2 that the process's end meets would abort it."""

REDACTION_SECONDS: Final = 10.0
"""A request's bodies take a second or two at their largest; patterns of a tenant's own may take hours."""

MOST_TOLD: Final = 200
SPARED_SECONDS: Final = 600.0
"""So long nothing is kept of a tenant by rules that took too long: the bodies of others wait behind it."""

NO_KEY: Final = "no_key"
NO_ROOM: Final = "no_room"
NOT_ASKED_FOR: Final = "not_asked_for"
NOT_REDACTED: Final = "not_redacted"
NOT_STORED: Final = "not_stored"
TOO_SLOW: Final = "too_slow"
STOPPED: Final = "stopped"

_log = structlog.get_logger("tollkeeper.gateway")


class NotRedacted(TollkeeperError):
    """A body could not be redacted. What it says is the kind of fault alone: an error's own words may be the body's."""


class Capturing:
    """Records requests of tenants that ask for it, and has them kept. Without a `keeper` there is nowhere to keep them.

    What is kept is what the `policy` in force permits as it is handed over, too, not only as it was captured.
    `largest` bounds what is kept of a body, `room` what all take in memory, both in bytes. `close` once.
    """

    def __init__(
        self, keeper: Keeper | None, policy: CurrentPolicy, metrics: Metrics, *, largest: int, room: int
    ) -> None:
        self._keeper = keeper
        self._policy = policy
        self._metrics = metrics
        self._largest = largest
        # Both bodies of one request find room, however little of it there is.
        self._room = Room(room, max(room // PARTS, 2 * (largest + MARGIN_BYTES)))
        self._told: set[str] = set()
        self._full = Faults("bodies are dropped: too many wait to be kept", "there is room for bodies again")
        self._lost = Faults("bodies cannot be kept, and are dropped", "bodies are kept again")
        self._slow: dict[tuple[str, KeptBodies], float] = {}
        self._waiting = Turns(MOST_WAITING, max(1, MOST_WAITING // PARTS))
        self._changed = threading.Condition()
        self._closed = self._given_up = False
        self._deadline = Deadline(0.0)
        # A daemon: a store that does not answer must not keep the process from its end.
        self._thread = threading.Thread(target=self._work, name="captures", daemon=True)
        if keeper is not None:
            self._thread.start()

    @property
    def waiting(self) -> int:
        """Captures in the queue."""
        return len(self._waiting)

    def begin(self, tenant: TenantNode, request_id: str, at: datetime) -> Recording | None:
        """A recording of a request, where its tenant wants one and there is somewhere to keep it."""
        if tenant.capture is None:
            return None
        if self._keeper is None:
            self._tell_no_key(tenant.name)
            return None
        about = About(request_id, tenant.name, at, tenant.capture)
        return Recording(about, self._largest + MARGIN_BYTES, self._room, self._take)

    async def close(self) -> None:
        """Take no more; what waits is kept if that is quick, else dropped."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._keeper is None:
            return
        await asyncio.to_thread(self._thread.join, FINISH_SECONDS)
        if not self._thread.is_alive():
            return
        with self._changed:
            left = self._waiting.clear()
        self._given_up = True
        self._deadline.end_now()
        self._drop(STOPPED, left)
        _log.warning("bodies that waited to be kept are dropped at the stop", captures=left)
        await asyncio.to_thread(self._thread.join, GIVE_UP_SECONDS)

    def _tell_no_key(self, tenant: str) -> None:
        self._drop(NO_KEY, 1)
        if tenant not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(tenant)
            _log.warning(
                "a tenant wants its bodies kept and none are, for there is no key to encrypt them with: "
                "name one with capture.keys in the settings",
                tenant=tenant,
            )

    def _take(self, recorded: Recorded | None) -> None:
        """Put into the queue what was recorded; on the loop's thread, and never waiting."""
        with self._changed:
            is_taken = recorded is not None and self._waiting.put(recorded)
            is_mostly_free = self._waiting.is_mostly_free
            self._changed.notify()
        if not is_taken:
            if recorded is not None:
                self._give_back(recorded)
            self._drop(NO_ROOM, 1)
            self._full.met(Unavailable(f"{len(self._waiting)} wait; see that the store of bodies keeps up"))
        elif self._full and is_mostly_free and self._room.is_mostly_free:
            self._full.overcome()

    def _work(self) -> None:
        while (one := self._next()) is not None:
            self._keep_from(one)

    def _next(self) -> Recorded | None:
        """The next of the queue; nothing when it is empty and no more comes."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return self._waiting.next() if self._waiting else None

    def _next_of_batch(self, batch: Sequence[Recorded], since: float) -> Recorded | None:
        """One that is kept together with a batch, where that has not become too many, too large or too slow."""
        taken = sum(one.taken for one in batch)
        if len(batch) >= AT_ONCE or taken >= BYTES_AT_ONCE or time.monotonic() - since >= SECONDS_AT_ONCE:
            return None
        with self._changed:
            return self._waiting.next() if self._waiting else None

    def _keep_from(self, first: Recorded) -> None:
        """Redact and keep one, and with it some of those that wait behind it."""
        batch: list[Recorded] = []
        captures: list[Capture] = []
        since = time.monotonic()
        one: Recorded | None = first
        try:
            while one is not None:
                batch.append(one)
                began = time.monotonic()
                if (capture := self._redacted(one)) is not None:
                    captures.append(capture)
                with self._changed:
                    self._waiting.costs(one.about.tenant, time.monotonic() - began)
                one = self._next_of_batch(batch, since)
            self._keep(self._asked_for(captures))
        finally:
            for one in batch:
                self._give_back(one)

    def _give_back(self, recorded: Recorded) -> None:
        self._room.give_back(recorded.about.tenant, recorded.taken)

    def _redacted(self, recorded: Recorded) -> Capture | None:
        """What is kept of a recording. A body that cannot be redacted is kept by nobody; most often that is a fault of ours."""
        about, now = recorded.about, time.monotonic()
        if self._slow.get((about.tenant, about.kept), now) > now:
            self._drop(TOO_SLOW, 1)
            return None
        self._deadline = Deadline(REDACTION_SECONDS)
        if self._given_up:
            self._deadline.end_now()
        try:
            return recorded.capture(self._largest, self._deadline)
        except TookTooLong as error:
            if self._given_up:
                self._drop(STOPPED, 1)
                return None
            self._spare(about, error)
            return None
        except Exception as error:  # noqa: BLE001 - whatever it is, the body must not go on, and the others must
            self._drop(NOT_REDACTED, 1)
            fault = NotRedacted(f"a body cannot be redacted: {type(error).__name__}")
            self._lost.met(fault.with_traceback(error.__traceback__), request=about.request_id)
            return None

    def _spare(self, about: About, error: TookTooLong) -> None:
        """Keep nothing of a tenant by these rules for a while. Many tenants have the same ones, and pay for their own bodies."""
        self._drop(TOO_SLOW, 1)
        now = time.monotonic()
        self._slow = {spared: until for spared, until in self._slow.items() if until > now}
        self._slow[about.tenant, about.kept] = now + SPARED_SECONDS
        _log.warning(
            "no bodies of a tenant are kept for a while: to redact one takes too long",
            tenant=about.tenant,
            seconds=SPARED_SECONDS,
            error=_why(about.kept.redaction, error),
        )

    def _asked_for(self, captures: Sequence[Capture]) -> list[Capture]:
        """What tenants want kept now, and no longer than they do: requests in flight and in the queue have the rules of then."""
        tenants = self._policy.value.tenants
        asked_for: list[Capture] = []
        for one in captures:
            node = tenants.get(one.tenant)
            if node is None or node.capture is None:
                self._drop(NOT_ASKED_FOR, 1)
            else:
                expires = min(one.expires_at, one.captured_at + node.capture.retention)
                asked_for.append(replace(one, expires_at=expires))
        return asked_for

    def _keep(self, captures: Sequence[Capture]) -> None:
        if self._keeper is None or not captures:
            return
        try:
            self._keeper.keep(captures)
        except Exception as error:  # noqa: BLE001 - whatever a store raises, requests know nothing of it
            if len(captures) > 1 and not isinstance(error, Unavailable):
                # One of them is at fault: the others are kept without it.
                for one in captures:
                    self._keep([one])
                return
            self._drop(NOT_STORED, len(captures))
            self._lost.met(error)
        else:
            self._metrics.captures_kept(len(captures))
            self._lost.overcome()

    def _drop(self, reason: str, count: int) -> None:
        self._metrics.captures_dropped(reason, count)


def _why(redaction: Redaction, error: TookTooLong) -> str:
    """What is told of rules that took too long: a pattern by itself where it is the tenant's own, which it can mend."""
    said = str(error)
    is_own = any(shown(own.pattern) in said for own in redaction.patterns)
    return said if is_own else "the time was over at a rule that is built in"
