"""Bodies that tenants want kept, in the running process: opened when there is something to keep, and swept by and by.

A store of bodies that cannot be opened keeps nobody from serving requests: it is tried again with the next bodies, and with
the next sweep.
"""

import asyncio
import contextlib
import math
import threading
import time
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

import structlog

from tollkeeper.captures import Capture, Keeper
from tollkeeper.policy import CurrentPolicy, PolicySet
from tollkeeper_ledger.captures.errors import CapturesFull, NoCaptures
from tollkeeper_ledger.captures.storage import CaptureStore, open_captures
from tollkeeper_ledger.captures.sweeping import sweep
from tollkeeper_ledger.storage import LedgerAt
from tollkeeper_sidecar.tasks import Faults, start_task

if TYPE_CHECKING:  # it loads the cryptography of keys, which who has none need not have
    from tollkeeper_ledger.captures.sealing import Keys

SWEEP_SECONDS: Final = 300.0
LOOK_SECONDS: Final = 10.0

_log = structlog.get_logger("tollkeeper.captures")


@contextlib.asynccontextmanager
async def keeping(
    ledger: LedgerAt, keys: "Keys | None", policy: CurrentPolicy, clock: Callable[[], datetime], *, largest: int
) -> AsyncGenerator[Keeper | None]:
    """Sweep what is kept beside a ledger until the block ends; where there are keys, what keeps more of it.

    `largest` is how many bytes of the disk all of it may take.
    """
    kept = Kept(ledger, keys, largest)
    sweeping = start_task(_sweep_again_and_again(kept, policy, clock), "retention of bodies")
    try:
        yield kept if keys is not None else None
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)
        await asyncio.to_thread(kept.close)


class Kept:
    """The store of a ledger's bodies, opened when it is needed; several threads may use it."""

    def __init__(self, ledger: LedgerAt, keys: "Keys | None", largest: int) -> None:
        self._ledger = ledger
        self._keys = keys
        self._largest = largest
        self._is_full = False
        self._looked = -math.inf
        self._lock = threading.Lock()
        self._store: CaptureStore | None = None

    def keep(self, captures: Sequence[Capture]) -> None:
        """See `Keeper`. Raises `CapturesFull` where bodies take all that they may."""
        from tollkeeper_ledger.captures.vault import Vault

        if self._keys is None:
            return
        store = self._opened()
        self._look_for_room(store)
        Vault(store, self._keys).keep(captures)

    def sweep(self, now: datetime, retentions: Mapping[str, timedelta]) -> int:
        """Delete what is over; see `sweeping.sweep`. Where nothing was ever kept there is nothing to do."""
        try:
            store = self._opened()
        except NoCaptures:
            return 0
        return sweep(store, now, retentions)

    def close(self) -> None:
        """Let go of the store."""
        with self._lock:
            if self._store is not None:
                self._store.close()

    def _look_for_room(self, store: CaptureStore) -> None:
        """Look now and then: one thread redacts and adds, so what it adds in between is little."""
        if time.monotonic() - self._looked >= LOOK_SECONDS:
            self._is_full = store.takes(self._largest)
            self._looked = time.monotonic()
        if self._is_full:
            raise CapturesFull(
                f"{store.name}: its bodies take the {self._largest} bytes that they may: raise "
                "capture.largest_store_bytes, let a tenant state a shorter retention, or delete some by "
                "`tollkeeper captures delete`"
            )

    def _opened(self) -> CaptureStore:
        with self._lock:
            if self._store is not None and self._store.is_stale:
                stale, self._store = self._store, None
                stale.close()
            if self._store is None:
                self._looked = -math.inf
                self._store = open_captures(self._ledger, make=self._keys is not None)
            return self._store


async def _sweep_again_and_again(kept: Kept, policy: CurrentPolicy, clock: Callable[[], datetime]) -> None:
    faults = Faults("bodies whose time is over cannot be deleted", "bodies whose time is over are deleted again")
    while True:
        try:
            deleted = await asyncio.to_thread(kept.sweep, clock(), retentions(policy.value))
        except Exception as error:  # noqa: BLE001 - retention must not end because one sweep did
            faults.met(error)
        else:
            faults.overcome()
            if deleted:
                _log.info("bodies whose time is over are deleted", captures=deleted)
        await asyncio.sleep(SWEEP_SECONDS)


def retentions(policy: PolicySet) -> Mapping[str, timedelta]:
    """How long bodies are kept now, of each tenant that wants them kept."""
    return {name: node.capture.retention for name, node in policy.tenants.items() if node.capture is not None}
